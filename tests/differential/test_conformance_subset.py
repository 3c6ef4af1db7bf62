"""A selection of ONNX's conformance cases through import, default pipeline and compiled code, in this process."""

from __future__ import annotations

import functools

import pytest

from benchmarks.conformance.cases import Case, load_cases
from benchmarks.conformance.check import check

NODE_CASES = [
    "test_add_bcast",
    "test_and_bcast3v1d",
    "test_argmax_negative_axis_keepdims_random_select_last_index",
    "test_attention_4d_gqa",
    "test_averagepool_2d_ceil",
    "test_averagepool_2d_pads_count_include_pad",
    "test_basic_conv_with_padding",
    "test_batchnorm_epsilon",
    "test_bitshift_left_uint8",
    "test_cast_FLOAT_to_BFLOAT16",
    "test_cast_FLOAT_to_FLOAT8E4M3FN",
    "test_cast_INT4_to_INT8",
    "test_clip_default_inbounds",
    "test_concat_3d_axis_negative_1",
    "test_conv_with_autopad_same",
    "test_convinteger_with_padding",
    "test_convtranspose_output_shape",
    "test_cumsum_1d_reverse_exclusive",
    "test_depthtospace_crd_mode_example",
    "test_dequantizelinear_axis",
    "test_dft",
    "test_div_uint8",
    "test_dynamicquantizelinear",
    "test_einsum_batch_matmul",
    "test_erf",
    "test_expand_dim_changed",
    "test_eyelike_with_dtype",
    "test_flatten_negative_axis1",
    "test_gather_negative_indices",
    "test_gathernd_example_int32_batch_dim1",
    "test_gelu_tanh_1",
    "test_gemm_all_attributes",
    "test_globalaveragepool",
    "test_gridsample_bicubic",
    "test_group_normalization_example",
    "test_gru_seq_length",
    "test_hardmax_example",
    "test_instancenorm_example",
    "test_isinf_negative",
    "test_layer_normalization_2d_axis1",
    "test_logsoftmax_axis_1",
    "test_lrn",
    "test_lstm_with_peepholes",
    "test_matmul_4d",
    "test_maxpool_2d_dilations",
    "test_mod_mixed_sign_float32",
    "test_nllloss_NCd1d2_with_weight",
    "test_onehot_with_negative_axis",
    "test_pow_types_int32_float32",
    "test_prelu_broadcast",
    "test_qlinearconv",
    "test_qlinearmatmul_2D_uint8_float32",
    "test_quantizelinear_axis",
    "test_range_float_type_positive_delta",
    "test_reduce_log_sum_exp_default_axes_keepdims_random",
    "test_reduce_max_empty_set",
    "test_reduce_mean_negative_axes_keepdims_random",
    "test_reflect_pad",
    "test_resize_downsample_scales_cubic",
    "test_resize_upsample_sizes_nearest",
    "test_reversesequence_batch",
    "test_rnn_seq_length",
    "test_round",
    "test_scatter_elements_with_reduction_max",
    "test_scatternd_add",
    "test_slice_neg_steps",
    "test_softmax_large_number",
    "test_split_variable_parts_2d_opset18",
    "test_stft",
    "test_tile",
    "test_top_k_negative_axis",
    "test_transpose_all_permutations_3",
    "test_tril_neg",
    "test_unsqueeze_three_axes",
    "test_where_example",
]
STORED_CASES = [
    "test_Conv2d_depthwise",
    "test_PReLU_2d_multiparam",
    "test_operator_addmm",
    "test_GLU_dim",
    "test_Linear",
]


@functools.cache
def cases() -> dict[str, Case]:
    return {case.name: case for case in load_cases()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*NODE_CASES, *STORED_CASES])
def test_case(name: str) -> None:
    case = cases().get(name)
    if case is None:
        pytest.skip("this version of onnx has no such case")
    outcome = check(case)
    assert outcome.outcome == "pass", f"{outcome.stage}: {outcome.message}"

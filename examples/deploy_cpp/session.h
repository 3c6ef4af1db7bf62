// A compiled model, loaded with TVM's C++ runtime: libtvm_runtime and libtvm_ffi, no Python, no compiler.
#pragma once

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "npy.h"

class Session {
 public:
  // `library` is an artifact's model.so.
  explicit Session(const std::string& library) : machine_(Load(library)) {
    constexpr int kPooledAllocator = 2;
    machine_->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, kPooledAllocator);
    main_ = machine_->GetFunction("main").value();
  }

  // Inputs and outputs in the order of the artifact's manifest.json.
  std::vector<Array> Run(const std::vector<Array>& inputs) const {
    std::vector<tvm::ffi::Tensor> tensors;
    for (const Array& input : inputs) tensors.push_back(ToTensor(input));
    std::vector<tvm::ffi::AnyView> arguments(tensors.begin(), tensors.end());
    tvm::ffi::Any result;
    main_.CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &result);
    std::vector<Array> outputs;
    for (const tvm::ffi::Tensor& tensor : result.cast<tvm::ffi::Array<tvm::ffi::Tensor>>()) {
      outputs.push_back(FromTensor(tensor));
    }
    return outputs;
  }

 private:
  static tvm::ffi::Module Load(const std::string& library) {
    tvm::ffi::Module module = tvm::ffi::Module::LoadFromFile(library);
    return module->GetFunction("vm_load_executable").value()().cast<tvm::ffi::Module>();
  }

  struct Allocator {  // kernels load whole vectors: 64 bytes of alignment
    void AllocData(DLTensor* tensor) {
      size_t bytes = (tvm::ffi::GetDataSize(*tensor) + 63) / 64 * 64;
      tensor->data = std::aligned_alloc(64, bytes ? bytes : 64);
      if (tensor->data == nullptr) throw std::bad_alloc();
    }
    void FreeData(DLTensor* tensor) { std::free(tensor->data); }
  };

  static tvm::ffi::Tensor ToTensor(const Array& array) {
    uint8_t bits = static_cast<uint8_t>(8 * std::stoul(array.dtype.substr(2)));
    char kind = array.dtype[1];
    uint8_t code = kind == 'f' ? kDLFloat : kind == 'u' ? kDLUInt : kind == 'b' ? kDLBool : kDLInt;
    tvm::ffi::ShapeView shape(array.shape.data(), array.shape.size());
    auto tensor = tvm::ffi::Tensor::FromNDAlloc(Allocator(), shape, DLDataType{code, bits, 1}, DLDevice{kDLCPU, 0});
    std::memcpy(tensor.data_ptr(), array.data.data(), array.data.size());
    return tensor;
  }

  static Array FromTensor(const tvm::ffi::Tensor& tensor) {
    DLDataType type = tensor.dtype();
    const char* kind = type.code == kDLFloat ? "<f" : type.code == kDLUInt ? "<u" : type.code == kDLBool ? "|b" : "<i";
    Array array{kind + std::to_string(type.bits / 8), {tensor.shape().begin(), tensor.shape().end()}, {}};
    const char* data = static_cast<const char*>(tensor.data_ptr());
    array.data.assign(data, data + tvm::ffi::GetDataSize(tensor));
    return array;
  }

  tvm::ffi::Module machine_;
  tvm::ffi::Function main_;
};

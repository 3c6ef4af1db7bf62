// Runs an artifact's library on a device that has TVM's runtime libraries and no Python.
//
//   runner features                      prints the CPU's features in Linux's names, one a line
//   runner run LIBRARY INPUTS OUTPUTS    calls the Relax function `main` on the tensors of a file
//
// A tensor file, little-endian: "EDGEIRT1", the number of tensors (u32); for each the length of its dtype's
// name (u32), the name, its rank (u32), its extents (i64 each), then its elements in C order.
// Exit codes: 0 done, 1 failed (the reason is on stderr), 2 wrong usage.

#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__linux__) && defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace ffi = tvm::ffi;

namespace {

constexpr char kMagic[] = "EDGEIRT1";
constexpr size_t kMagicLength = sizeof(kMagic) - 1;
constexpr size_t kAlignment = 64;  // what TVM's kernels assume of their buffers
constexpr int kPooledAllocator = 2;

struct AlignedAllocator {
  void AllocData(DLTensor* tensor) {
    size_t bytes = ffi::GetDataSize(*tensor);
    bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    tensor->data = std::aligned_alloc(kAlignment, bytes ? bytes : kAlignment);
    if (tensor->data == nullptr) throw std::bad_alloc();
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

template <typename T>
T Read(std::istream& file) {
  T value{};
  file.read(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

template <typename T>
void Write(std::ostream& file, T value) {
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
}

std::vector<ffi::Tensor> ReadTensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  file.exceptions(std::ios::failbit | std::ios::badbit | std::ios::eofbit);
  char magic[kMagicLength];
  file.read(magic, kMagicLength);
  if (std::memcmp(magic, kMagic, kMagicLength) != 0) throw std::runtime_error(path + " is no tensor file");
  std::vector<ffi::Tensor> tensors(Read<uint32_t>(file));
  for (ffi::Tensor& tensor : tensors) {
    std::string name(Read<uint32_t>(file), '\0');
    file.read(name.data(), name.size());
    std::vector<int64_t> shape(Read<uint32_t>(file));
    for (int64_t& extent : shape) extent = Read<int64_t>(file);
    tensor = ffi::Tensor::FromNDAlloc(AlignedAllocator(), ffi::ShapeView(shape.data(), shape.size()),
                                      ffi::StringToDLDataType(name), DLDevice{kDLCPU, 0});
    file.read(static_cast<char*>(tensor.data_ptr()), ffi::GetDataSize(tensor));
  }
  return tensors;
}

void WriteTensors(const std::string& path, const std::vector<ffi::Tensor>& tensors) {
  std::ofstream file(path, std::ios::binary);
  file.exceptions(std::ios::failbit | std::ios::badbit);
  file.write(kMagic, kMagicLength);
  Write<uint32_t>(file, tensors.size());
  for (const ffi::Tensor& tensor : tensors) {
    std::string name = ffi::DLDataTypeToString(tensor.dtype());
    Write<uint32_t>(file, name.size());
    file.write(name.data(), name.size());
    Write<uint32_t>(file, tensor.ndim());
    for (int64_t extent : tensor.shape()) Write<int64_t>(file, extent);
    file.write(static_cast<const char*>(tensor.data_ptr()), ffi::GetDataSize(tensor));
  }
}

void Run(const std::string& library, const std::string& inputs, const std::string& outputs) {
  ffi::Module module = ffi::Module::LoadFromFile(library);
  ffi::Module machine = module->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  machine->GetFunction("vm_initialization").value()(static_cast<int>(kDLCPU), 0, kPooledAllocator);
  std::vector<ffi::Tensor> tensors = ReadTensors(inputs);
  std::vector<ffi::AnyView> arguments(tensors.begin(), tensors.end());
  ffi::Any result;
  machine->GetFunction("main").value().CallPacked(arguments.data(), arguments.size(), &result);
  std::vector<ffi::Tensor> results;
  if (auto single = result.as<ffi::Tensor>()) {
    results.push_back(*single);
  } else {
    for (const ffi::Tensor& tensor : result.cast<ffi::Array<ffi::Tensor>>()) results.push_back(tensor);
  }
  WriteTensors(outputs, results);
}

void PrintFeatures() {
#if defined(__linux__) && defined(__aarch64__)
  struct Feature {
    const char* name;
    unsigned long type, bit;
  };
  const Feature kFeatures[] = {
      {"fp", AT_HWCAP, HWCAP_FP},           {"asimd", AT_HWCAP, HWCAP_ASIMD},
      {"crc32", AT_HWCAP, HWCAP_CRC32},     {"atomics", AT_HWCAP, HWCAP_ATOMICS},
      {"fphp", AT_HWCAP, HWCAP_FPHP},       {"asimdhp", AT_HWCAP, HWCAP_ASIMDHP},
      {"asimdrdm", AT_HWCAP, HWCAP_ASIMDRDM}, {"asimddp", AT_HWCAP, HWCAP_ASIMDDP},
      {"asimdfhm", AT_HWCAP, HWCAP_ASIMDFHM}, {"sve", AT_HWCAP, HWCAP_SVE},
      {"sve2", AT_HWCAP2, HWCAP2_SVE2},     {"i8mm", AT_HWCAP2, HWCAP2_I8MM},
      {"bf16", AT_HWCAP2, HWCAP2_BF16},
  };
  for (const Feature& feature : kFeatures) {
    if (getauxval(feature.type) & feature.bit) std::cout << feature.name << "\n";
  }
#endif
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  try {
    if (command == "features" && argc == 2) {
      PrintFeatures();
    } else if (command == "run" && argc == 5) {
      Run(argv[2], argv[3], argv[4]);
    } else {
      std::cerr << "usage: runner features | runner run LIBRARY INPUTS OUTPUTS\n";
      return 2;
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}

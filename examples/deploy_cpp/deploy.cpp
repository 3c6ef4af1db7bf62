// Runs an artifact on .npy files: deploy ARTIFACT OUTPUT_PREFIX INPUT.npy…
#include <chrono>
#include <iostream>

#include "session.h"

// The most memory that was resident, in KiB; 0 where the system does not say (Linux does).
static long PeakResident() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stol(line.substr(6));
  }
  return 0;
}

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: deploy ARTIFACT OUTPUT_PREFIX INPUT.npy...\n";
    return 2;
  }
  try {
    Session session(std::string(arguments[1]) + "/model.so");
    std::vector<Array> inputs;
    for (int i = 3; i < count; ++i) inputs.push_back(ReadNpy(arguments[i]));
    auto start = std::chrono::steady_clock::now();
    std::vector<Array> outputs = session.Run(inputs);
    std::chrono::duration<double, std::milli> elapsed = std::chrono::steady_clock::now() - start;
    for (size_t i = 0; i < outputs.size(); ++i) {
      WriteNpy(arguments[2] + std::to_string(i) + ".npy", outputs[i]);
    }
    std::cout << outputs.size() << " outputs, first run " << elapsed.count() << " ms, peak resident " << PeakResident()
              << " KiB\n";
  } catch (const std::exception& error) {
    std::cerr << "deploy: " << error.what() << "\n";
    return 1;
  }
}

// Arrays in numpy's .npy format, version 1.0: little-endian, C order.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Array {
  std::string dtype;  // as numpy writes it: "<f4", "|u1", …
  std::vector<int64_t> shape;
  std::vector<char> data;
};

inline Array ReadNpy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[8];
  uint16_t length = 0;
  if (!file.read(magic, 8) || std::memcmp(magic, "\x93NUMPY\x01", 7) != 0) throw std::runtime_error(path + ": no .npy file");
  file.read(reinterpret_cast<char*>(&length), 2);
  std::string header(length, ' ');
  file.read(header.data(), length);
  if (header.find("'fortran_order': False") == std::string::npos) throw std::runtime_error(path + ": not in C order");
  Array array;
  size_t at = header.find("'descr': '") + 10;
  array.dtype = header.substr(at, header.find('\'', at) - at);
  size_t elements = 1;
  at = header.find("'shape': (") + 10;
  for (size_t end = header.find(')', at); at < end && header[at] != ')';) {
    size_t used = 0;
    array.shape.push_back(std::stoll(header.substr(at, end - at), &used));
    elements *= array.shape.back();
    at = header.find_first_not_of(", ", at + used);
  }
  array.data.resize(elements * std::stoul(array.dtype.substr(2)));
  if (!file.read(array.data.data(), array.data.size())) throw std::runtime_error(path + ": too short");
  return array;
}

inline void WriteNpy(const std::string& path, const Array& array) {
  std::string shape;
  for (int64_t extent : array.shape) shape += std::to_string(extent) + ",";
  std::string header = "{'descr': '" + array.dtype + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  header += '\n';
  uint16_t length = static_cast<uint16_t>(header.size());
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8).write(reinterpret_cast<char*>(&length), 2);
  file.write(header.data(), header.size()).write(array.data.data(), array.data.size());
  if (!file) throw std::runtime_error(path + ": cannot be written");
}

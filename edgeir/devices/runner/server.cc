// TVM's RPC server on a device that has TVM's runtime libraries and no Python.
//
//   server PORT KEY [TRACKER_HOST:PORT]
//
// Listens on the loopback address, at the first free port of the hundred from PORT on, and prints that port. One client
// at a time, each in a process of its own: code that crashes ends its session and no more. With a tracker, the server
// registers under KEY anew after each session, and when the tracker comes back.
// Exit code 2: wrong usage, or no port is free.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/tvm_ffi.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <stdexcept>
#include <string>

namespace ffi = tvm::ffi;

namespace {

// Of TVM's protocol (tvm/rpc/base.py).
constexpr int32_t kServerMagic = 0xff271;
constexpr int32_t kMismatch = kServerMagic + 2;
constexpr int32_t kTrackerMagic = 0x2f271;
constexpr int32_t kLongestMessage = 1 << 20;
constexpr int kPorts = 100;
constexpr int kTrackerSeconds = 2;  // between two looks at whether the tracker still has the match key
constexpr int kUnusedLooks = 3;     // looks after which a client that took the match key is given up

// A file descriptor that is closed at the end of its scope.
class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {
    if (descriptor < 0) throw std::runtime_error("no socket");
    int yes = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  }
  ~Socket() { close(descriptor_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int descriptor() const { return descriptor_; }

  void Send(const void* data, size_t size) const {
    const char* place = static_cast<const char*>(data);
    while (size > 0) {
      ssize_t done = send(descriptor_, place, size, MSG_NOSIGNAL);
      if (done <= 0) throw std::runtime_error("the connection was closed");
      place += done, size -= done;
    }
  }
  void SendNumber(int32_t number) const { Send(&number, sizeof number); }
  void SendText(const std::string& text) const {
    SendNumber(static_cast<int32_t>(text.size()));
    Send(text.data(), text.size());
  }

  void Receive(void* data, size_t size) const {
    char* place = static_cast<char*>(data);
    while (size > 0) {
      ssize_t done = recv(descriptor_, place, size, 0);
      if (done <= 0) throw std::runtime_error("the connection was closed");
      place += done, size -= done;
    }
  }
  int32_t ReceiveNumber() const {
    int32_t number = 0;
    Receive(&number, sizeof number);
    return number;
  }
  std::string ReceiveText() const {
    int32_t length = ReceiveNumber();
    if (length < 0 || length > kLongestMessage) throw std::runtime_error("a message of unlikely length");
    std::string text(length, '\0');
    Receive(text.data(), text.size());
    return text;
  }

 private:
  int descriptor_;
};

sockaddr_in AddressOf(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  if (inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) throw std::runtime_error("not an IPv4 address: " + host);
  return address;
}

// The server's place at a tracker; its messages are JSON arrays that begin with a number.
class Tracker {
 public:
  Tracker(const std::string& host, int port, std::string key, int own_port)
      : socket_(::socket(AF_INET, SOCK_STREAM, 0)), key_(std::move(key)), own_port_(own_port) {
    sockaddr_in address = AddressOf(host, port);
    if (connect(socket_.descriptor(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("the tracker does not answer");
    }
    socket_.SendNumber(kTrackerMagic);
    if (socket_.ReceiveNumber() != kTrackerMagic) throw std::runtime_error("that is no tracker");
    Ask("[5, {\"key\": \"server:" + key_ + "\", \"addr\": [null, " + std::to_string(own_port_) + "]}]");
  }

  // Offers the server to the next client; returns what that client will call it.
  std::string Offer() {
    std::string name = key_ + ":" + std::to_string(random_());
    Ask("[3, \"" + key_ + "\", [" + std::to_string(own_port_) + ", \"" + name + "\"], null]");
    return name;
  }

  // Whether nobody has taken the offer yet.
  bool IsFree(const std::string& name) { return Ask("[7]").find("\"" + name + "\"") != std::string::npos; }

 private:
  std::string Ask(const std::string& message) {
    socket_.SendText(message);
    return socket_.ReceiveText();
  }

  Socket socket_;
  std::string key_;
  int own_port_;
  std::random_device random_;
};

int Listen(int first, int* port) {
  int descriptor = ::socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  for (*port = first; *port < first + kPorts; ++*port) {
    sockaddr_in address = AddressOf("127.0.0.1", *port);
    if (bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && listen(descriptor, 8) == 0) {
      return descriptor;
    }
  }
  throw std::runtime_error("no port is free");
}

// Serves one client in this process, in a folder.
void ServeSession(const Socket& client, const std::string& folder) {
  if (chdir(folder.c_str()) != 0) throw std::runtime_error("no temporary folder");
  auto place = [folder](ffi::String name) { return folder + "/" + std::string(name); };
  ffi::Function::SetGlobal("tvm.rpc.server.workpath",
                           ffi::Function::FromTyped([place](ffi::String name) { return ffi::String(place(name)); }), true);
  ffi::Function::SetGlobal(
      "tvm.rpc.server.load_module",
      ffi::Function::FromTyped([place](ffi::String name) { return ffi::Module::LoadFromFile(place(name)); }), true);
  ffi::Function::GetGlobalRequired("rpc.ServerLoop")(client.descriptor());
}

// Runs a session in a process of its own, and removes what it left.
void Serve(const Socket& client, double seconds) {
  char folder[] = "/tmp/edgeir-session-XXXXXX";
  if (mkdtemp(folder) == nullptr) throw std::runtime_error("no temporary folder");
  pid_t child = fork();
  if (child == 0) {
    if (seconds > 0) alarm(static_cast<unsigned>(seconds + 1));
    try {
      ServeSession(client, folder);
    } catch (const std::exception& error) {
      std::cerr << error.what() << std::endl;
      _exit(1);
    }
    _exit(0);
  }
  int status = 0;
  if (child > 0) waitpid(child, &status, 0);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  if (child < 0) throw std::runtime_error("no process for a session");
}

// Greets a client. Returns whether it asked for this server; `seconds` is how long it may stay, 0 without a limit.
bool Greet(const Socket& client, const std::string& name, const std::string& key, double* seconds) {
  if (client.ReceiveNumber() != kServerMagic) return false;
  std::string wanted = client.ReceiveText();
  size_t option = wanted.find(" -timeout=");
  *seconds = option == std::string::npos ? 0.0 : std::atof(wanted.c_str() + option + 10);
  if (wanted.substr(0, option) != "client:" + name) {
    client.SendNumber(kMismatch);
    return false;
  }
  client.SendNumber(kServerMagic);
  client.SendText("server:" + key);
  return true;
}

// Waits for a client of this server and serves it.
void ServeNext(int listener, const std::string& key, Tracker* tracker) {
  std::string name = tracker == nullptr ? key : tracker->Offer();
  int unused = 0;
  while (true) {
    pollfd waiting{listener, POLLIN, 0};
    if (poll(&waiting, 1, tracker == nullptr ? -1 : 1000 * kTrackerSeconds) <= 0) {
      unused = tracker->IsFree(name) ? 0 : unused + 1;
      if (unused > kUnusedLooks) return;
      continue;
    }
    Socket client(accept(listener, nullptr, nullptr));
    double seconds = 0;
    bool greeted = false;
    try {
      greeted = Greet(client, name, key, &seconds);
    } catch (const std::exception&) {
      // Whoever connected has gone again.
    }
    if (greeted) return Serve(client, seconds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::cerr << "usage: server PORT KEY [TRACKER_HOST:PORT]" << std::endl;
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const std::string key = argv[2], place = argc == 4 ? argv[3] : "";
  int port = 0, listener = -1;
  try {
    listener = Listen(std::atoi(argv[1]), &port);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 2;
  }
  std::cout << port << std::endl;
  while (true) {
    try {
      if (place.empty()) {
        ServeNext(listener, key, nullptr);
        continue;
      }
      size_t colon = place.rfind(':');
      Tracker tracker(place.substr(0, colon), std::atoi(place.c_str() + colon + 1), key, port);
      while (true) ServeNext(listener, key, &tracker);
    } catch (const std::exception& error) {
      std::cerr << error.what() << std::endl;
      sleep(1);
    }
  }
}

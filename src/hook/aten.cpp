// The hook that tch lacks: at::RecordFunction, a thread-local callback around every ATen operator.
//
// One Observation lives from tca_begin to tca_end, on one thread. It reports every operator at depth 0 (what an
// operator calls inside is noise) when it ends, with its inputs (readable only at the start, so they are kept in the
// ObserverContext) and its outputs. Tensors and storages are known by numbers that this file hands out: it keeps a
// weak reference to each, so that an address is never taken for that of a tensor that has gone, and so that no
// activation lives longer than the model lets it.
//
// Must be compiled with -DNDEBUG, like libtorch: RecordFunction has another layout without it.

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr uint64_t kNone = UINT64_MAX;

template <typename T>
class Numbers {
 public:
  uint64_t of(const c10::intrusive_ptr<T>& strong) {
    auto found = seen_.find(strong.get());
    if (found != seen_.end()) return found->second.number;
    const uint64_t number = next_++;
    seen_.emplace(strong.get(), Seen{c10::weak_intrusive_ptr<T>(strong), number});
    return number;
  }

 private:
  struct Seen {
    c10::weak_intrusive_ptr<T> weak;  // keeps the address from being reused, not the memory behind it
    uint64_t number;
  };
  std::unordered_map<const T*, Seen> seen_;
  uint64_t next_ = 0;
};

struct Event;
using Callback = int32_t (*)(void* user, const Event* event);

struct Observation {
  void* user;
  Callback callback;
  uint64_t thread;
  at::CallbackHandle handle = 0;
  bool was_enabled = true;
  int64_t depth = 0;
  bool stopped = false;
  Numbers<c10::TensorImpl> tensors;
  Numbers<c10::StorageImpl> storages;
};

// Read by the start callback only, to find the observation of its own thread; from there on the pointer is captured.
// Threads of libtorch inherit the callback but not this pointer: their events are ignored.
thread_local Observation* current = nullptr;

struct Context : at::ObserverContext {
  Observation* observation;
  bool report;
  std::vector<c10::IValue> inputs;
};

struct Event {
  Observation* observation;
  const at::RecordFunction* function;
  const Context* context;
  const std::vector<c10::IValue>* outputs;
  const std::vector<c10::IValue>* values(int32_t wanted) const { return wanted ? outputs : &context->inputs; }
};

uint64_t storage_number(Observation* o, const at::Tensor& t) {
  if (!t.has_storage()) return kNone;
  return o->storages.of(t.storage().getWeakStorageImpl().lock());
}

// The interpreter of TorchScript passes its whole stack: the operator's own values are the last ones.
std::vector<c10::IValue> last(c10::ArrayRef<const c10::IValue> values, size_t n) {
  const size_t skip = values.size() > n ? values.size() - n : 0;
  return std::vector<c10::IValue>(values.begin() + skip, values.end());
}

std::unique_ptr<at::ObserverContext> on_start(const at::RecordFunction& function) {
  Observation* o = current;
  if (o == nullptr || at::RecordFunction::currentThreadId() != o->thread) return nullptr;
  auto context = std::make_unique<Context>();
  context->observation = o;
  context->report = o->depth == 0 && !o->stopped && function.scope() == at::RecordScope::FUNCTION &&
                    std::strncmp(function.name(), "autograd::", 10) != 0;
  o->depth += 1;
  if (context->report) {
    context->inputs = last(function.inputs(), function.num_inputs());
  }
  return context;
}

void on_end(const at::RecordFunction& function, at::ObserverContext* raw) {
  auto* context = static_cast<Context*>(raw);
  if (context == nullptr) return;
  Observation* o = context->observation;
  if (at::RecordFunction::currentThreadId() != o->thread) return;
  o->depth -= 1;
  if (!context->report || o->stopped) return;
  at::DisableRecordFunctionGuard quiet;  // the observer's own tensor work is not observed
  at::NoGradGuard no_grad;
  const auto& all = function.outputs();
  const auto outputs = last(c10::ArrayRef<const c10::IValue>(all.data(), all.size()), function.num_outputs());
  Event event{o, &function, context, &outputs};
  if (o->callback(o->user, &event) != 0) o->stopped = true;
}

const c10::IValue* value(const Event* e, int32_t outputs, size_t i) {
  const auto* values = e->values(outputs);
  return i < values->size() ? &(*values)[i] : nullptr;
}

// The j-th tensor of a value that is a tensor or a list of tensors; undefined if there is none.
at::Tensor tensor_at(const Event* e, int32_t outputs, size_t i, size_t j) {
  const auto* v = value(e, outputs, i);
  if (v == nullptr) return {};
  if (v->isTensor()) return j == 0 ? v->toTensor() : at::Tensor();
  if (v->isTensorList()) {
    auto list = v->toTensorList();
    return j < list.size() ? list.get(j) : at::Tensor();
  }
  if (v->isList()) {  // optional tensors
    auto list = v->toListRef();
    return j < list.size() && list[j].isTensor() ? list[j].toTensor() : at::Tensor();
  }
  return {};
}

char* copy_message(const char* message) {
  const size_t n = std::strlen(message) + 1;
  char* copy = static_cast<char*>(std::malloc(n));
  if (copy != nullptr) std::memcpy(copy, message, n);
  return copy;
}

template <typename F>
auto guarded(char** error, F&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const std::exception& e) {
    if (error != nullptr) *error = copy_message(e.what());
  } catch (...) {
    if (error != nullptr) *error = copy_message("unknown C++ exception");
  }
  return decltype(body())();
}

at::Device device_of(int32_t code) {
  if (code == -1) return at::kCPU;
  if (code == -2) return at::kMPS;
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(code));
}

}  // namespace

extern "C" {

// Starts observing this thread. Returns null and sets *error on failure.
Observation* tca_begin(void* user, Callback callback, char** error) {
  return guarded(error, [&]() -> Observation* {
    auto o = std::make_unique<Observation>();
    o->user = user;
    o->callback = callback;
    o->thread = at::RecordFunction::currentThreadId();
    o->was_enabled = at::isRecordFunctionEnabled();
    o->handle = at::addThreadLocalCallback(at::RecordFunctionCallback(on_start, on_end)
                                               .needsInputs(true)
                                               .needsOutputs(true)
                                               .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
    at::enableRecordFunction(true);
    current = o.get();
    return o.release();
  });
}

// Ends the observation; on the thread that began it.
void tca_end(Observation* o) {
  guarded(nullptr, [&] {
    current = nullptr;
    at::removeCallback(o->handle);
    at::enableRecordFunction(o->was_enabled);
    delete o;
    return 0;
  });
}

// The number of a tensor that the caller holds.
uint64_t tca_number(Observation* o, const at::Tensor* t) {
  return guarded(nullptr, [&]() -> uint64_t { return o->tensors.of(t->getIntrusivePtr()) + 1; }) - 1;
}

const char* tca_event_name(const Event* e) { return e->function->name(); }
const char* tca_event_overload(const Event* e) { return e->function->overload_name(); }
size_t tca_event_len(const Event* e, int32_t outputs) { return e->values(outputs)->size(); }

// 0 none, 1 tensor, 2 tensors, 3 integer, 4 float, 5 boolean, 6 integers, 7 anything else, 8 text.
int32_t tca_value_kind(const Event* e, int32_t outputs, size_t i) {
  return guarded(nullptr, [&]() -> int32_t {
    const auto* v = value(e, outputs, i);
    if (v == nullptr || v->isNone()) return 0;
    if (v->isTensor()) return v->toTensor().defined() ? 1 : 0;
    if (v->isTensorList()) return 2;
    if (v->isInt()) return 3;
    if (v->isDouble()) return 4;
    if (v->isBool()) return 5;
    if (v->isIntList()) return 6;
    if (v->isString()) return 8;
    if (v->isList()) {
      for (const auto& item : v->toListRef())
        if (item.isTensor()) return 2;
    }
    return 7;
  });
}

// How many tensors or integers a value holds.
size_t tca_value_len(const Event* e, int32_t outputs, size_t i) {
  return guarded(nullptr, [&]() -> size_t {
    const auto* v = value(e, outputs, i);
    if (v == nullptr) return 0;
    if (v->isTensor()) return 1;
    return v->isList() ? v->toListRef().size() : 0;
  });
}

int64_t tca_value_int(const Event* e, int32_t outputs, size_t i, size_t j) {
  return guarded(nullptr, [&]() -> int64_t {
    const auto* v = value(e, outputs, i);
    if (v == nullptr) return 0;
    if (v->isInt()) return v->toInt();
    if (v->isBool()) return v->toBool();
    if (v->isIntList()) {
      auto list = v->toIntVector();
      return j < list.size() ? list[j] : 0;
    }
    return 0;
  });
}

double tca_value_double(const Event* e, int32_t outputs, size_t i) {
  return guarded(nullptr, [&]() -> double {
    const auto* v = value(e, outputs, i);
    return v != nullptr && v->isDouble() ? v->toDouble() : 0.0;
  });
}

// A copy of a text, to be freed with tca_free_message; null if the value is none.
char* tca_value_text(const Event* e, int32_t outputs, size_t i) {
  return guarded(nullptr, [&]() -> char* {
    const auto* v = value(e, outputs, i);
    return v != nullptr && v->isString() ? copy_message(v->toStringRef().c_str()) : nullptr;
  });
}

// A new handle to the j-th tensor of a value, owned by the caller; null if there is none.
at::Tensor* tca_value_tensor(const Event* e, int32_t outputs, size_t i, size_t j) {
  return guarded(nullptr, [&]() -> at::Tensor* {
    at::Tensor t = tensor_at(e, outputs, i, j);
    return t.defined() ? new at::Tensor(std::move(t)) : nullptr;
  });
}

// The numbers of the j-th tensor of a value and of its storage; UINT64_MAX where there is none.
void tca_value_numbers(const Event* e, int32_t outputs, size_t i, size_t j, uint64_t* tensor, uint64_t* storage) {
  *tensor = *storage = kNone;
  guarded(nullptr, [&] {
    at::Tensor t = tensor_at(e, outputs, i, j);
    if (t.defined()) {
      *tensor = e->observation->tensors.of(t.getIntrusivePtr());
      *storage = storage_number(e->observation, t);
    }
    return 0;
  });
}

// The state of the random number generator of a device (-1 the CPU, -2 MPS, else the number of a CUDA device), as a new
// tensor owned by the caller.
at::Tensor* tca_rng_state(int32_t device, char** error) {
  return guarded(error, [&]() -> at::Tensor* {
    at::DisableRecordFunctionGuard quiet;
    auto generator = at::globalContext().defaultGenerator(device_of(device));
    std::lock_guard<std::mutex> lock(generator.mutex());
    return new at::Tensor(generator.get_state());
  });
}

// Puts back a state that tca_rng_state returned.
void tca_set_rng_state(int32_t device, const at::Tensor* state, char** error) {
  guarded(error, [&] {
    at::DisableRecordFunctionGuard quiet;
    auto generator = at::globalContext().defaultGenerator(device_of(device));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(*state);
    return 0;
  });
}

// Starts the random number generator of a device anew.
void tca_seed(int32_t device, uint64_t seed, char** error) {
  guarded(error, [&] {
    at::DisableRecordFunctionGuard quiet;
    auto generator = at::globalContext().defaultGenerator(device_of(device));
    std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_current_seed(seed);
    return 0;
  });
}

// An operator's arguments, then its results.
using Stack = std::vector<c10::IValue>;
Stack* tca_stack_new() { return guarded(nullptr, [] { return new Stack(); }); }
void tca_stack_free(Stack* s) { delete s; }
void tca_stack_none(Stack* s) { s->emplace_back(); }
void tca_stack_int(Stack* s, int64_t i) { s->emplace_back(i); }
void tca_stack_double(Stack* s, double x) { s->emplace_back(x); }
void tca_stack_bool(Stack* s, int32_t b) { s->emplace_back(b != 0); }
void tca_stack_ints(Stack* s, const int64_t* v, size_t n) { s->emplace_back(std::vector<int64_t>(v, v + n)); }
void tca_stack_text(Stack* s, const char* text, size_t n) { s->emplace_back(std::string(text, n)); }
void tca_stack_tensor(Stack* s, const at::Tensor* t) { s->emplace_back(*t); }
void tca_stack_tensors(Stack* s, const at::Tensor* const* t, size_t n) {
  c10::List<at::Tensor> list;
  for (size_t i = 0; i < n; i++) list.push_back(*t[i]);
  s->emplace_back(std::move(list));
}

// Calls the operator by its schema's name; the stack then holds its results.
void tca_stack_call(Stack* s, const char* name, const char* overload, char** error) {
  guarded(error, [&] {
    at::NoGradGuard no_grad;
    c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).callBoxed(s);
    return 0;
  });
}

// The tensors among the results in order, as new handles owned by the caller; null beyond the last.
at::Tensor* tca_stack_result(const Stack* s, size_t wanted) {
  return guarded(nullptr, [&]() -> at::Tensor* {
    for (const auto& v : *s) {
      if (v.isTensor()) {
        if (wanted-- == 0) return new at::Tensor(v.toTensor());
      } else if (v.isTensorList()) {
        const auto list = v.toTensorVector();
        if (wanted < list.size()) return new at::Tensor(list[wanted]);
        wanted -= list.size();
      }
    }
    return nullptr;
  });
}

// Where a tensor begins in its storage, in elements.
int64_t tca_storage_offset(const at::Tensor* t) {
  return guarded(nullptr, [&]() -> int64_t { return t->has_storage() ? t->storage_offset() : 0; });
}

// Forgets the gradient of a tensor that has got another shape, and the accumulator that a loss may still hold: both
// would fail in the next backward pass.
void tca_reset_gradient(const at::Tensor* t, char** error) {
  guarded(error, [&] {
    if (t->requires_grad() || t->grad().defined()) {
      t->mutable_grad().reset();
      torch::autograd::impl::set_grad_accumulator(
          *t, c10::weak_intrusive_ptr<torch::autograd::Node>(c10::intrusive_ptr<torch::autograd::Node>()));
    }
    return 0;
  });
}

// Hands every buffer of a TorchScript module to the callback: its name and a new handle that the callback owns.
void tca_named_buffers(const torch::jit::Module* m, void* user, void (*f)(void*, const char*, at::Tensor*), char** error) {
  guarded(error, [&] {
    for (const auto& b : m->named_buffers()) {
      if (b.value.defined()) f(user, b.name.c_str(), new at::Tensor(b.value));
    }
    return 0;
  });
}

// A copy of a tensor, owned by the caller.
at::Tensor* tca_copy_of(const at::Tensor* t, char** error) {
  return guarded(error, [&]() -> at::Tensor* {
    at::DisableRecordFunctionGuard quiet;
    at::NoGradGuard no_grad;
    return new at::Tensor(t->detach().clone());
  });
}

// Writes a copy that tca_copy_of made back to its tensor, if their numbers differ. Returns whether they did.
int32_t tca_put_back(const at::Tensor* t, const at::Tensor* copy, char** error) {
  return guarded(error, [&]() -> int32_t {
    at::DisableRecordFunctionGuard quiet;
    at::NoGradGuard no_grad;
    at::Tensor own = t->detach();
    if (own.sizes() == copy->sizes() && own.equal(*copy)) return 0;
    if (own.sizes() != copy->sizes()) own.resize_(copy->sizes());
    own.copy_(*copy);
    return 1;
  });
}

// Puts a module and all that it holds into evaluation mode. What has no mode (frozen, or written by other programs) is
// passed over; libtorch's own function stops there, with the rest still in training mode.
void tca_set_eval(const torch::jit::Module* m, char** error) {
  guarded(error, [&] {
    for (const auto& part : m->modules()) {
      const auto slot = part._ivalue()->type()->findAttributeSlot("training");
      if (slot && part._ivalue()->getSlot(*slot).isBool()) part._ivalue()->setSlot(*slot, false);
    }
    return 0;
  });
}

void tca_free_message(char* message) { std::free(message); }

}  // extern "C"

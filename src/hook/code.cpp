// The code of a TorchScript module, as a text in JSON that src/graph/code.rs reads: the methods, what they read, and the
// blocks that a pass may leave out.
//
// Each method is inlined, and what is fixed is folded: `training`, numbers, texts, absent parts of the module and the flags
// of its parts are taken as they are, so that only branches remain that other inputs, other arguments or other flags of the
// module itself can take. To know which blocks ran, a copy of `forward` in which every block reports itself is run once on
// an example.
//
// Only values that can hold tensors are told; a value's number is its number in its graph.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/constant_propagation.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/inline_fork_wait.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/lower_tuples.h>
#include <torch/csrc/jit/passes/peephole.h>
#include <torch/csrc/jit/passes/shape_analysis.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::Module;
using torch::jit::Node;
using torch::jit::Value;
namespace attr = c10::attr;
namespace prim = c10::prim;

// An attribute of one module of the tree.
using Attribute = std::pair<const void*, std::string>;

bool holds_tensors(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
    case c10::TypeKind::AnyType:
    case c10::TypeKind::InterfaceType:
      return true;
    case c10::TypeKind::ClassType:
      return !type->is_module();
    default:
      break;
  }
  for (const auto& part : type->containedTypes()) {
    if (holds_tensors(part)) return true;
  }
  return false;
}

// The object that a value of a method's graph is: the module itself, or one within it.
std::optional<c10::IValue> object_of(const Value* v, const c10::IValue& self) {
  const Node* n = v->node();
  if (v == v->owningGraph()->inputs().at(0)) return self;
  if (n->kind() != prim::GetAttr) return std::nullopt;
  const auto owner = object_of(n->input(0), self);
  if (!owner || !owner->isObject()) return std::nullopt;
  const auto object = owner->toObject();
  const auto slot = object->type()->findAttributeSlot(n->s(attr::name));
  if (!slot) return std::nullopt;
  return object->getSlot(*slot);
}

template <typename F>
void each_node(Block* block, F&& visit) {
  const std::vector<Node*> nodes(block->nodes().begin(), block->nodes().end());
  for (Node* n : nodes) {
    visit(n);
    for (Block* b : n->blocks()) each_node(b, visit);
  }
}

// Attributes that some method writes, and the methods that `forward` names, directly or through others.
struct Tree {
  const void* top;
  std::set<Attribute> written;
  std::set<std::pair<const void*, std::string>> called;
  std::set<const torch::jit::Function*> called_of_top;

  explicit Tree(const Module& module) : top(module._ivalue().get()) {
    for (const auto& sub : module.named_modules()) {
      for (const auto& method : sub.value.get_methods()) {
        const c10::IValue self = sub.value._ivalue();
        each_node(method.graph()->block(), [&](Node* n) {
          if (n->kind() != prim::SetAttr) return;
          const auto owner = object_of(n->input(0), self);
          if (owner && owner->isObject()) written.emplace(owner->toObject().get(), n->s(attr::name));
        });
      }
    }
    if (module.find_method("forward")) call(module._ivalue(), "forward");
  }

  void call(const c10::IValue& self, const std::string& name) {
    if (!self.isObject() || !called.emplace(self.toObject().get(), name).second) return;
    const auto method = Module(self.toObject()).find_method(name);
    if (!method) return;
    if (self.toObject().get() == top) called_of_top.insert(&method->function());
    each_node(method->graph()->block(), [&](Node* n) {
      if (n->kind() != prim::CallMethod) return;
      const auto object = object_of(n->input(0), self);
      if (object) call(*object, n->s(attr::name));
    });
  }
};

bool is_fixed(const std::string& name, const c10::IValue& v, bool of_a_part) {
  if (v.isBool()) return of_a_part || name == "training";
  if (v.isNone() || v.isInt() || v.isDouble() || v.isString() || v.isDevice()) return true;
  return v.isIntList() || v.isDoubleList() || v.isBoolList();
}

// A copy of a method's code without calls and without what is decided. `rank` is that of its first argument, if known.
std::shared_ptr<Graph> folded(const torch::jit::Method& method, const c10::IValue& self, const Tree& tree, int64_t rank) {
  const void* top = tree.top;
  auto graph = method.graph()->copy();
  torch::jit::Inline(*graph);
  torch::jit::InlineForkWait(graph);
  each_node(graph->block(), [&](Node* n) {
    if (n->kind() != prim::GetAttr) return;
    const std::string& name = n->s(attr::name);
    const auto owner = object_of(n->input(0), self);
    const auto found = object_of(n->output(), self);
    if (!found || tree.written.count({owner->toObject().get(), name}) > 0) return;
    if (found->isTensor()) {
      n->output()->setType(c10::TensorType::get());  // an optional one that is there
    } else if (is_fixed(name, *found, owner->toObject().get() != top)) {
      torch::jit::WithInsertPoint here(n);
      const auto constant = torch::jit::tryInsertConstant(*graph, *found);
      if (constant) n->output()->replaceAllUsesWith(*constant);
    }
  });
  torch::jit::LowerSimpleTuples(graph);
  if (rank >= 0 && graph->inputs().size() > 1 && graph->inputs()[1]->type()->isSubtypeOf(*c10::TensorType::get())) {
    graph->inputs()[1]->setType(c10::TensorType::get()->withDim(static_cast<size_t>(rank)));
    try {
      torch::jit::PropagateInputShapes(graph);
    } catch (const std::exception&) {  // less is known then
    }
  }
  for (int i = 0; i < 2; i++) {
    torch::jit::ConstantPropagation(graph);
    torch::jit::PeepholeOptimize(graph);
  }
  torch::jit::EliminateDeadCode(graph);
  return graph;
}

bool is_branch(const Node* n) { return n->kind() == prim::If || n->kind() == prim::Loop; }

// Makes every block of a graph report whether it ran, as truth values that the graph returns. Blocks have numbers, in the
// order in which they begin.
struct Reporter {
  Graph& graph;
  size_t next = 0;
  using Flags = std::vector<std::pair<size_t, Value*>>;

  Value* constant(Block* at_end_of, bool value) {
    torch::jit::WithInsertPoint here(at_end_of);
    return graph.insertConstant(value);
  }

  // The numbers of the blocks within a block, and at its end whether each ran.
  Flags mark(Block* block) {
    Flags flags;
    const std::vector<Node*> nodes(block->nodes().begin(), block->nodes().end());
    for (Node* n : nodes) {
      if (!is_branch(n)) {
        for (Block* b : n->blocks()) mark(b);
        continue;
      }
      std::vector<Flags> within;
      for (Block* b : n->blocks()) {
        const size_t own = next++;
        within.push_back(mark(b));
        within.back().emplace_back(own, constant(b, true));
      }
      for (size_t i = 0; i < within.size(); i++) {
        for (const auto& [number, flag] : within[i]) {
          if (n->kind() == prim::Loop) {
            Block* body = n->blocks()[0];
            {
              torch::jit::WithInsertPoint before(n);
              n->addInput(graph.insertConstant(false));
            }
            Value* earlier = body->addInput()->setType(c10::BoolType::get());
            torch::jit::WithInsertPoint here(body);
            Value* either = graph.insert(c10::aten::__or__, {earlier, flag});
            body->registerOutput(either);
          } else {
            for (size_t j = 0; j < n->blocks().size(); j++) {
              Block* b = n->blocks()[j];
              b->registerOutput(i == j ? flag : constant(b, false));
            }
          }
          flags.emplace_back(number, n->addOutput()->setType(c10::BoolType::get()));
        }
      }
    }
    return flags;
  }
};

// What the model warns of has been said when it was traced.
struct Quiet : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

// Which blocks of `forward` run on an example.
std::set<size_t> blocks_that_run(const torch::jit::Method& forward, const Graph& code, const c10::IValue& self,
                                 const at::Tensor& example) {
  auto graph = const_cast<Graph&>(code).copy();
  Reporter reporter{*graph};
  const auto flags = reporter.mark(graph->block());
  std::set<size_t> ran;
  if (flags.empty()) return ran;
  for (const auto& [number, flag] : flags) graph->registerOutput(flag);
  torch::jit::Stack stack{self, example};
  const auto& arguments = forward.function().getSchema().arguments();
  for (size_t i = 2; i < arguments.size(); i++) {
    TORCH_CHECK(arguments[i].default_value().has_value(), "`forward` wants more than one input");
    stack.push_back(*arguments[i].default_value());
  }
  at::NoGradGuard no_grad;
  Quiet quiet;
  c10::WarningUtils::WarningHandlerGuard guard(&quiet);
  torch::jit::Code compiled(graph, "forward");
  torch::jit::InterpreterState(compiled).run(stack);
  TORCH_CHECK(stack.size() >= flags.size(), "`forward` returned less than it should");
  const size_t first = stack.size() - flags.size();
  for (size_t i = 0; i < flags.size(); i++) {
    if (stack[first + i].toBool()) ran.insert(flags[i].first);
  }
  return ran;
}

// What decides a branch, in words. `seen` keeps loops from being walked for ever.
void reasons(const Value* v, std::set<const Value*>& seen, std::set<std::string>& found) {
  if (!seen.insert(v).second) return;
  const Node* n = v->node();
  if (n->kind() == prim::Param) {
    const auto inputs = v->owningGraph()->inputs();
    for (size_t i = 0; i < inputs.size(); i++) {
      if (inputs[i] == v) found.insert(i < 2 ? "2values" : "1argument `" + v->debugNameBase() + "`");
    }
    return;
  }
  if (n->kind() == prim::GetAttr) {
    found.insert((holds_tensors(v->type()) ? "4state `" : "0flag `") + n->s(attr::name) + "`");
    return;
  }
  const std::string name = n->kind().toQualString();
  if (name == "aten::size" || name == "aten::len" || name == "aten::dim" || name == "aten::numel") {
    found.insert("3size");
    return;
  }
  for (const Value* input : n->inputs()) reasons(input, seen, found);
}

class Writer {
 public:
  std::string text;

  void string(const std::string& s) {
    text += '"';
    for (const char c : s) {
      if (c == '"' || c == '\\') {
        text += '\\';
        text += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
        text += escaped;
      } else {
        text += c;
      }
    }
    text += '"';
  }
  void key(const char* name) {
    comma();
    string(name);
    text += ':';
  }
  void number(size_t n) {
    comma();
    text += std::to_string(n);
  }
  void boolean(const char* name, bool value) {
    key(name);
    text += value ? "true" : "false";
  }
  void open(char bracket) {
    comma();
    text += bracket;
  }
  void close(char bracket) { text += bracket; }

 private:
  void comma() {
    if (!text.empty() && std::strchr("[{:,", text.back()) == nullptr) text += ',';
  }
};

// One method's code.
struct Telling {
  Writer& to;
  const Tree& tree;
  const c10::IValue& self;
  const std::unordered_map<const c10::TensorImpl*, size_t>& named;
  size_t first_other;  // the number of the first attribute that is none of them
  std::map<Attribute, size_t>& others;
  const std::set<size_t>& ran;
  size_t next = 0;

  // The number of a tensor that an attribute holds: its place among the named ones, or one of its own.
  std::optional<size_t> tensor(const Value* owner, const std::string& name) {
    const auto object = object_of(owner, self);
    if (!object || !object->isObject()) return std::nullopt;
    const auto slot = object->toObject()->type()->findAttributeSlot(name);
    if (slot) {
      const auto& held = object->toObject()->getSlot(*slot);
      if (held.isTensor()) {
        const auto found = named.find(held.toTensor().unsafeGetTensorImpl());
        if (found != named.end()) return found->second;
      }
    }
    const auto added = others.emplace(Attribute{object->toObject().get(), name}, first_other + others.size());
    return added.first->second;
  }

  void values(const char* name, c10::ArrayRef<const Value*> list) {
    to.key(name);
    to.open('[');
    for (const Value* v : list) {
      if (holds_tensors(v->type())) to.number(v->unique());
    }
    to.close(']');
  }
  void inputs(const Node* n) {
    values("inputs", c10::ArrayRef<const Value*>(n->inputs().data(), n->inputs().size()));
  }
  void outputs(const Node* n) {
    values("outputs", c10::ArrayRef<const Value*>(n->outputs().data(), n->outputs().size()));
  }

  void place(const Node* n) {
    auto range = n->sourceRange();
    if (const auto original = range.findSourceRangeThatGenerated()) range = *original;
    const auto at = range.file_line_col();
    if (!at || std::get<0>(*at).empty()) return;
    to.key("file");
    to.string(std::get<0>(*at));
    to.key("line");
    to.number(std::get<1>(*at));
    to.key("text");
    const auto& source = range.source();
    to.string(source->get_line(source->lineno_for_offset(range.start())).str());
  }

  // Whether a node comes from a method of the module itself that `forward` is made of.
  bool is_known(const Node* n) const {
    const auto stack = n->callstack();
    if (!stack) return false;
    for (const auto& call : (*stack)->vec()) {
      if (tree.called_of_top.count(std::get<0>(call)) > 0) return true;
    }
    return false;
  }

  void block(Block* b, bool ran_at_all) {
    bool raises = false;
    to.open('{');
    to.boolean("ran", ran_at_all);
    to.key("nodes");
    to.open('[');
    for (Node* n : b->nodes()) {
      raises |= n->kind() == prim::RaiseException;
      node(n);
    }
    to.close(']');
    to.boolean("raises", raises);
    to.close('}');
  }

  void node(Node* n) {
    const auto kind = n->kind();
    if (is_branch(n)) return branch(n);
    if (kind == prim::Constant || kind == prim::Uninitialized) {
      if (!holds_tensors(n->output()->type()) || (kind == prim::Constant && n->hasAttribute(attr::value))) return;
      to.open('{');
      to.key("op");
      to.string("absent");
      outputs(n);
      to.close('}');
      return;
    }
    bool concerns = false;
    for (const Value* v : n->inputs()) concerns |= holds_tensors(v->type());
    for (const Value* v : n->outputs()) concerns |= holds_tensors(v->type());
    if (!concerns) return;
    to.open('{');
    to.key("op");
    to.string(kind.toQualString());
    inputs(n);
    outputs(n);
    if (is_known(n)) to.boolean("known", true);
    // Numbers that come from an argument which was left at its default.
    std::set<const Value*> seen;
    std::set<std::string> found;
    for (const Value* v : n->inputs()) {
      if (!holds_tensors(v->type())) reasons(v, seen, found);
    }
    for (const std::string& reason : found) {
      if (reason[0] != '1') continue;
      to.key("decided_by");
      to.string(reason.substr(1));
      break;
    }
    if (kind == prim::GetAttr || kind == prim::SetAttr) {
      if (const auto number = tensor(n->input(0), n->s(attr::name))) {
        to.key("tensor");
        to.number(*number);
      }
    }
    to.close('}');
  }

  void branch(Node* n) {
    const bool loop = n->kind() == prim::Loop;
    to.open('{');
    to.key("op");
    to.string(loop ? "loop" : "if");
    if (loop) {
      const bool fixed =
          n->input(0)->node()->kind() == prim::Constant && n->input(1)->node()->kind() == prim::Constant &&
          n->blocks()[0]->outputs()[0]->node()->kind() == prim::Constant;
      to.boolean("fixed", fixed);
    }
    place(n);
    std::set<const Value*> seen;
    std::set<std::string> found;
    reasons(n->input(0), seen, found);
    if (loop) {
      reasons(n->input(1), seen, found);
      reasons(n->blocks()[0]->outputs()[0], seen, found);
    }
    if (!found.empty()) {
      to.key("decided_by");
      to.string(found.begin()->substr(1));
    }
    // [result, before or then, after or else, within]: what may be the same value for one who reads the result.
    to.key("joins");
    to.open('[');
    for (size_t i = 0; i < n->outputs().size(); i++) {
      if (!holds_tensors(n->output(i)->type())) continue;
      to.open('[');
      to.number(n->output(i)->unique());
      if (loop) {
        to.number(n->input(i + 2)->unique());
        to.number(n->blocks()[0]->outputs()[i + 1]->unique());
        to.number(n->blocks()[0]->inputs()[i + 1]->unique());
      } else {
        to.number(n->blocks()[0]->outputs()[i]->unique());
        to.number(n->blocks()[1]->outputs()[i]->unique());
      }
      to.close(']');
    }
    to.close(']');
    to.key("blocks");
    to.open('[');
    for (Block* b : n->blocks()) {
      const size_t own = next++;
      block(b, ran.count(own) > 0);
    }
    to.close(']');
    to.close('}');
  }
};

char* copied(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

std::string code_of(const Module& module, const at::Tensor* const* tensors, size_t n, const at::Tensor& example) {
  std::unordered_map<const c10::TensorImpl*, size_t> named;
  for (size_t i = 0; i < n; i++) named.emplace(tensors[i]->unsafeGetTensorImpl(), i);
  const Tree tree(module);
  std::map<Attribute, size_t> others;
  Writer to;
  to.open('[');
  for (const auto& sub : module.named_modules()) {
    const bool top = sub.name.empty();
    const c10::IValue self = sub.value._ivalue();
    for (const auto& method : sub.value.get_methods()) {
      const bool called = tree.called.count({self.toObject().get(), method.name()}) > 0;
      const bool forward = top && method.name() == "forward";
      // What a part of the module offers is only of interest where `forward` does not use it. `forward__1` is an overload.
      if (!top && (called || method.name().rfind("forward", 0) == 0)) continue;
      if (method.name().rfind("__", 0) == 0) continue;  // `__getstate__` and the like, for saving
      const auto graph = folded(method, self, tree, forward ? example.dim() : -1);
      std::set<size_t> ran;
      if (forward) ran = blocks_that_run(method, *graph, self, example);
      to.open('{');
      to.key("name");
      to.string(top ? method.name() : sub.name + "." + method.name());
      to.boolean("forward", forward);
      to.boolean("called", called);
      Telling telling{to, tree, self, named, n, others, ran};
      const auto returned = graph->outputs();
      telling.values("returns", c10::ArrayRef<const Value*>(returned.data(), returned.size()));
      to.key("body");
      telling.block(graph->block(), forward);
      to.close('}');
    }
  }
  to.close(']');
  return to.text;
}

}  // namespace

extern "C" {

// The code of a module, as JSON that the caller frees; null and *error on failure. `tensors` are the `n` named ones.
char* tca_module_code(const Module* module, const at::Tensor* const* tensors, size_t n, const at::Tensor* example, char** error) {
  try {
    return copied(code_of(*module, tensors, n, *example));
  } catch (const std::exception& e) {
    *error = copied(e.what());
  } catch (...) {
    *error = copied("unknown C++ exception");
  }
  return nullptr;
}

}  // extern "C"

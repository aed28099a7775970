#include "spec/keys.h"

#include "spec/key_makers.h"

namespace gdn::spec {
namespace {

using namespace makers;

// Four words for two leaves: what is stored, and whether zeros follow it.
Key a_log() {
  using core::AStored;
  constexpr std::int64_t kPadded = 3;
  Key key =
      row("decay.a_log", ValueType::kWord, "", {RuleId::kDecayALog, RuleId::kDecayEntries},
          "what the parameter a_log stores: A_log, A_log and zeros behind it (log_padded), or -exp(A_log) as GGUF "
          "files do; absent: there is none, exp(A_log) is 1");
  key.words = {say("log", AStored::kLog), say("negative_exp", AStored::kNegativeExp), say("absent", AStored::kAbsent),
               say("log_padded", kPadded)};
  key.store = [](Spec& s, const Value& v) {
    const bool padded = v.integer == kPadded;
    s.decay.a_log = {padded ? AStored::kLog : static_cast<AStored>(v.integer), v.place};
    s.decay.a_log_padded = {padded, v.place};
  };
  key.show = [words = key.words](const Spec& s) {
    return word_of(words, *s.decay.a_log_padded ? kPadded : static_cast<std::int64_t>(*s.decay.a_log));
  };
  return key;
}

// Finds a leaf in a Spec, const or not.
// NOLINTBEGIN(bugprone-macro-parentheses): a member path takes none
#define GDN_AT(leaf) [](auto& s) -> auto& { return s.leaf; }
// NOLINTEND(bugprone-macro-parentheses)

Applies prefilled_of(const Spec& s) { return is(s.prefill.enabled, *s.prefill.enabled); }

// Whether the rank of a part's projection applies; the projection itself applies to kda only.
Applies low_rank(const Spec& spec, const Located<Projection>& projection) {
  const Applies kda = is(spec.rule, *spec.rule == core::Rule::kKda);
  return kda == Applies::kYes ? is(projection, *projection == Projection::kLowRank) : kda;
}

std::vector<Key> make_keys() {
  using namespace core;
  const auto normed = [](const Spec& s) { return is(s.qk_norm.enabled, *s.qk_norm.enabled); };
  const auto softplus = [](const Spec& s) { return is(s.decay.form, *s.decay.form == DecayForm::kSoftplus); };
  const auto bounded = [](const Spec& s) { return is(s.decay.form, *s.decay.form == DecayForm::kBounded); };
  const auto normed_out = [](const Spec& s) { return is(s.out_norm.enabled, *s.out_norm.enabled); };
  const auto quantised = [](const Spec& s) { return is(s.output_quant.given, *s.output_quant.given); };
  const auto floored = [](const Spec& s) {
    if (!*s.output_quant.given) return is(s.output_quant.given, false);
    return is(s.output_quant.floor_at, *s.output_quant.floor_at != FloorAt::kNone);
  };
  const auto padded_a_log = [](const Spec& s) { return is(s.decay.a_log_padded, *s.decay.a_log_padded); };
  const auto kda = [](const Spec& s) { return is(s.rule, *s.rule == core::Rule::kKda); };
  const std::vector<Word> projections = {say("low_rank", Projection::kLowRank), say("single", Projection::kSingle)};
  // Whether the state has 16 bits, which the pools say: unknown while keys are read, known to everybody who asks later.
  const auto narrow_state = [](const Spec& s) {
    const Tensor* state = find_tensor(s.pools, "state");
    if (!state || state->dtype.place.line == 0) return Applies::kUnknown;
    return *state->dtype == DType::kBf16 || *state->dtype == DType::kFp16 ? Applies::kYes : Applies::kNo;
  };
  const auto padded = [](const Spec& s) { return is(s.slots.padding, *s.slots.padding != Padding::kNone); };
  const auto prefilled = [](const Spec& s) { return prefilled_of(s); };
  const auto flagged = [](const Spec& s) {
    if (prefilled_of(s) != Applies::kYes) return prefilled_of(s);
    return is(s.prefill.initial_states, *s.prefill.initial_states == InitialStates::kFlagged);
  };
  const auto drafted = [](const Spec& s) { return is(s.speculative.given, *s.speculative.given); };
  const std::vector<Word> activations = {say("silu", Activation::kSilu), say("sigmoid", Activation::kSigmoid),
                                         say("none", Activation::kNone)};
  const std::vector<Word> parts = {say("q", 0), say("k", 0), say("v", 0), say("z", 0), say("b", 0), say("a", 0)};
  const std::vector<Word> conv_activations = {say("silu", Activation::kSilu), say("none", Activation::kNone)};
  return {
      integer("gdn_gen", GDN_AT(version), "", {RuleId::kVersion}, "version of the spec language"),
      text("name", GDN_AT(name), {RuleId::kNameIdentifier, RuleId::kNameFile},
           "identifier: the file's own name without .yaml, part of symbols and of file names"),
      text("model", GDN_AT(model), {}, "what people call the model"),
      word("rule", {say("gdn", core::Rule::kGdn), say("kda", core::Rule::kKda)}, GDN_AT(rule), {},
           "gdn: one decay per value head; kda: one per value head and key channel"),

      integer("heads.key", GDN_AT(heads.key), "heads", {RuleId::kHeadsRange, RuleId::kHeadsGroup}, "heads of q and k"),
      integer("heads.value", GDN_AT(heads.value), "heads", {RuleId::kHeadsRange, RuleId::kHeadsGroup},
              "heads of v, z, b, a and of the state"),
      word("heads.pairing", {say("grouped", Pairing::kGrouped), say("tiled", Pairing::kTiled)}, GDN_AT(heads.pairing),
           {}, "value head h reads key head: grouped h / group, tiled h % heads.key"),
      integer("dims.key", GDN_AT(dims.key), "elements", {RuleId::kDimsMultiple}, "K: channels of a head of q and k"),
      integer("dims.value", GDN_AT(dims.value), "elements", {RuleId::kDimsMultiple},
              "V: channels of a head of v, z and o"),

      integer("conv.width", GDN_AT(conv.width), "taps", {RuleId::kConvWidth, RuleId::kConvWindow},
              "taps of the causal depthwise convolution over q, k and v, the current token's included"),
      word("conv.activation", conv_activations, GDN_AT(conv.activation), {}, "after the convolution, on q, k and v"),
      boolean("conv.bias", GDN_AT(conv.bias), {RuleId::kConvBias}, "whether the convolution adds conv_bias"),
      word("conv.taps", {say("oldest_first", true), say("newest_first", false)}, GDN_AT(conv.taps_oldest_first), {},
           "which tap of conv_weight multiplies the current token: the last (oldest_first) or the first"),
      integer("conv.window", GDN_AT(conv.window), "tokens", {RuleId::kConvWindow},
              "inputs that a slot of the conv state keeps, at least width - 1"),
      word("conv.anchor", {say("first", Anchor::kFirst), say("last", Anchor::kLast)}, GDN_AT(conv.anchor), {},
           "where the last width - 1 inputs lie in the window, oldest first: its first rows or its last"),

      word("qk_norm.kind", {say("l2", true), say("none", false)}, GDN_AT(qk_norm.enabled), {},
           "normalisation of each head of q and k after the convolution"),
      when(real("qk_norm.eps", GDN_AT(qk_norm.eps), {RuleId::kEpsRange}, "the eps of that normalisation"),
           "qk_norm.kind is l2", normed),
      when(word("qk_norm.eps_at", {say("sum", EpsAt::kSum), say("mean", EpsAt::kMean), say("max", EpsAt::kMax)},
                GDN_AT(qk_norm.eps_at), {},
                "sum: x/sqrt(sum(x^2)+eps); mean: x/sqrt(mean(x^2)+eps)/sqrt(K); max: x/max(sqrt(sum(x^2)),eps)"),
           "qk_norm.kind is l2", normed),
      scale("qk_scale.q", GDN_AT(qk_scale.q_text), "factor of q after the normalisation"),
      scale("qk_scale.k", GDN_AT(qk_scale.k_text), "factor of k after the normalisation"),

      word("decay.input", {say("logit", Domain::kLogit), {"ln", 1, true}, {"log2", 2, true}, {"exp", 3, true}},
           GDN_AT(decay.input), {RuleId::kLater}, "what the projection's a holds"),
      word("decay.form", {say("softplus", DecayForm::kSoftplus), say("bounded", DecayForm::kBounded)},
           GDN_AT(decay.form), {RuleId::kDecayBounded},
           "softplus: g = -exp(A_log) * softplus(a + dt_bias); bounded: g = bound * sigmoid(exp(A_log) * (a + "
           "dt_bias))"),
      when(real_or_none("decay.threshold", GDN_AT(decay.threshold), {RuleId::kDecayThreshold},
                        "softplus(x) = x above it; none: log(1 + exp(x)) everywhere"),
           "decay.form is softplus", softplus),
      when(real("decay.bound", GDN_AT(decay.bound), {RuleId::kDecayBounded}, "lower bound of g, below 0"),
           "decay.form is bounded", bounded),
      when(word("decay.bound_key",
                {say("lower_bound", BoundKey::kLowerBound), say("gate_lower_bound", BoundKey::kGateLowerBound),
                 say("kda_lower_bound", BoundKey::kKdaLowerBound)},
                GDN_AT(decay.bound_key), {}, "the key of the model's config.json that holds the bound"),
           "decay.form is bounded", bounded),
      a_log(),
      when(integer("decay.a_log_entries", GDN_AT(decay.a_log_entries), "entries", {RuleId::kDecayEntries},
                   "entries that a padded a_log has, zeros behind those of the value heads"),
           "decay.a_log is log_padded", padded_a_log),
      word("decay.handover", {say("ln", Domain::kLn), say("log2", Domain::kLog2), say("exp", Domain::kExp)},
           GDN_AT(decay.handover), {}, "what g holds between the parts: ln of the decay, its log2, or the decay"),
      word("beta.input", {say("logit", Domain::kLogit), {"sigmoid", 1, true}}, GDN_AT(beta.input), {RuleId::kLater},
           "what the projection's b holds"),
      real("beta.factor", GDN_AT(beta.factor), {RuleId::kBetaFactor},
           "beta = factor * sigmoid(b); 2 allows negative eigenvalues"),

      word("out_norm.kind", {say("rms", true), say("none", false)}, GDN_AT(out_norm.enabled),
           {RuleId::kNormTensors, RuleId::kNormOutput},
           "the norm of o; none: out is o, rounded to rounding.o, and whoever takes it norms and gates it: nothing "
           "reads z; `out_norm: none` for short"),
      when(only("out_norm.span", "value_dim", "what its mean runs over: one head"), "out_norm.kind is rms", normed_out),
      when(real("out_norm.eps", GDN_AT(out_norm.eps), {RuleId::kEpsRange}, "o * rsqrt(mean(o^2) + eps)"),
           "out_norm.kind is rms", normed_out),
      when(word("out_norm.weight",
                {say("w", NormWeight::kW), say("1+w", NormWeight::kOnePlusW),
                 say("2*(1+w)", NormWeight::kTwiceOnePlusW)},
                GDN_AT(out_norm.weight), {}, "the factor made from norm_weight"),
           "out_norm.kind is rms", normed_out),
      when(word("out_norm.gate", activations, GDN_AT(out_norm.gate), {}, "what is done to z before it multiplies"),
           "out_norm.kind is rms", normed_out),
      when(word("out_norm.order", {say("norm_then_gate", true), say("gate_then_norm", false)},
                GDN_AT(out_norm.norm_before_gate), {},
                "whether the gate multiplies after the norm and weight or before"),
           "out_norm.kind is rms", normed_out),

      word("output_quant.kind", {say("dynamic", true), say("none", false)}, GDN_AT(output_quant.given), {},
           "dynamic: the output is 8-bit numbers with scales made from the values at hand; `output_quant: none` for "
           "short"),
      when(real("output_quant.max", GDN_AT(output_quant.max), {RuleId::kQuantMax},
                "the largest magnitude that a quantised number takes: 448, 240 or 224"),
           "output_quant.kind is dynamic", quantised),
      when(
          count("output_quant.group", {say("head", OutputQuant::kHead), say("token", OutputQuant::kToken)},
                GDN_AT(output_quant.group), "channels", {RuleId::kQuantGroup},
                "neighbouring channels of an output's row that share a scale: a number, all of a value head, or all of "
                "a token"),
          "output_quant.kind is dynamic", quantised),
      when(word("output_quant.floor_at",
                {say("none", FloorAt::kNone), say("amax", FloorAt::kAmax), say("scale", FloorAt::kScale),
                 say("replace", FloorAt::kReplace)},
                GDN_AT(output_quant.floor_at), {},
                "s from amax, a group's largest magnitude; none: amax / max, and a group of zeros has scale 0; amax: "
                "larger(amax, floor) / max; scale: larger(amax / max, floor); replace: amax > floor ? amax / max : "
                "floor"),
           "output_quant.kind is dynamic", quantised),
      when(real("output_quant.floor", GDN_AT(output_quant.floor), {RuleId::kQuantFloor}, "the floor of that formula"),
           "output_quant.floor_at is not none", floored),
      when(word("output_quant.scale", {say("fp32", false), say("ue8m0", true)}, GDN_AT(output_quant.power_of_two), {},
                "fp32: s as it is; ue8m0: s becomes 2^ceil(log2(s))"),
           "output_quant.kind is dynamic", quantised),
      when(dtype("output_quant.from", GDN_AT(output_quant.from), RuleId::kRoundingDtype,
                 "the output before amax and quantisation"),
           "output_quant.kind is dynamic", quantised),
      when(
          word("output_quant.arithmetic", {say("reciprocal", false), say("divide", true)}, GDN_AT(output_quant.divides),
               {}, "reciprocal: y * (1 / s); divide: y / s; then rounded to nearest even"),
          "output_quant.kind is dynamic", quantised),

      word("slots.dtype", {say("int32", DType::kInt32), say("int64", DType::kInt64)}, GDN_AT(slots.dtype), {},
           "dtype of the slot index of each row"),
      word("slots.padding",
           {say("none", Padding::kNone), say("negative", Padding::kNegative),
            say("zero_or_negative", Padding::kZeroOrNegative)},
           GDN_AT(slots.padding), {}, "which slot indices mark a padding row, which touches no pool"),
      when(word("slots.padded_output", {say("zero", PaddedOutput::kZero), say("untouched", PaddedOutput::kUntouched)},
                GDN_AT(slots.padded_output), {}, "what happens to the output of a padding row"),
           "slots.padding is not none", padded),
      word("slots.excess_output", {say("zero", PaddedOutput::kZero), say("untouched", PaddedOutput::kUntouched)},
           GDN_AT(slots.excess_output), {},
           "what becomes of the rows of out, and of its scales, that a buffer larger than the batch has beyond it"),

      word("prefill.kind", {say("chunked", true), say("none", false)}, GDN_AT(prefill.enabled), {},
           "how sequences of many tokens are worked through: in chunks, or by no kernel of this spec; `prefill: none` "
           "says the latter in short"),
      when(integer("prefill.chunk", GDN_AT(prefill.chunk), "tokens", {RuleId::kPrefillChunk},
                   "tokens of a chunk: what a kernel's tiles and workspace are made for"),
           "prefill.kind is chunked", prefilled),
      when(word("prefill.offsets", {say("int32", DType::kInt32), say("int64", DType::kInt64)}, GDN_AT(prefill.offsets),
                {},
                "dtype of cu_seqlens: sequence i has the tokens from cu_seqlens[i] to before cu_seqlens[i + 1]; one "
                "number more than sequences, ascending from 0"),
           "prefill.kind is chunked", prefilled),
      when(word("prefill.initial_states",
                {say("flagged", InitialStates::kFlagged), say("all", InitialStates::kAll),
                 say("none", InitialStates::kNone)},
                GDN_AT(prefill.initial_states), {},
                "which sequences start from what their slots hold, others from zeros: those whose has_initial_state is "
                "not 0 (a null has_initial_state: none of them), all, or none"),
           "prefill.kind is chunked", prefilled),
      when(word("prefill.flags", {say("uint8", DType::kUint8), say("int32", DType::kInt32)}, GDN_AT(prefill.flags), {},
                "dtype of has_initial_state; uint8 takes frameworks' bool"),
           "prefill.initial_states is flagged", flagged),
      when(word("prefill.final_states", {say("in_place", true), say("none", false)}, GDN_AT(prefill.final_states), {},
                "whether state and window after a sequence's last token go to its slot"),
           "prefill.kind is chunked", prefilled),
      when(only("prefill.empty", "untouched", "a sequence without tokens: its slot keeps what it holds"),
           "prefill.kind is chunked", prefilled),
      when(dtype("prefill.qk", GDN_AT(prefill.qk), RuleId::kRoundingDtype,
                 "q and k after the norm and before the scale; stands in prefill for rounding.qk"),
           "prefill.kind is chunked", prefilled),
      when(
          word(
              "prefill.snapshots", {say("slots", true), say("none", false)}, GDN_AT(prefill.snapshots), {},
              "slots: a launch may name rows behind whose tokens state and windows are kept as well, each in a slot of "
              "the pools (snapshot_rows, snapshot_slots); none: it can't"),
          "prefill.kind is chunked", prefilled),
      when(integer("speculative.tokens", GDN_AT(speculative.tokens), "tokens",
                   {RuleId::kSpecTokens, RuleId::kSpecWindow},
                   "the most tokens of a sequence in one launch: the guaranteed one and the drafts"),
           "speculative is not none", drafted),
      when(word("speculative.scheme",
                {say("slots", Rollback::kSlots), say("intermediate", Rollback::kIntermediate),
                 say("replay", Rollback::kReplay)},
                GDN_AT(speculative.scheme), {RuleId::kSpecTensors, RuleId::kSpecWindow},
                "slots: the state after each token in a slot of its own, the next launch starts from the accepted "
                "token's; intermediate: in a buffer of the launch, state_commit copies the accepted one; replay: one "
                "state a sequence and records of each token, which the next launch or state_commit applies"),
           "speculative is not none", drafted),
      when(word("speculative.counts", {say("tokens", Counts::kTokens), say("drafts", Counts::kDrafts)},
                GDN_AT(speculative.counts), {},
                "what the numbers of `accepted` count: tokens, with the guaranteed one, or drafts, without it"),
           "speculative is not none", drafted),
      when(word("speculative.accepted", {say("int32", DType::kInt32), say("int64", DType::kInt64)},
                GDN_AT(speculative.accepted), {}, "dtype of the numbers of accepted tokens, one a sequence"),
           "speculative is not none", drafted),
      when(word("speculative.offsets", {say("int32", DType::kInt32), say("int64", DType::kInt64)},
                GDN_AT(speculative.offsets), {},
                "dtype of cu_seqlens: sequence i has the tokens from cu_seqlens[i] to before cu_seqlens[i + 1]; one "
                "number more than sequences, ascending from 0"),
           "speculative is not none", drafted),

      dtype("rounding.conv", GDN_AT(rounding.conv), RuleId::kRoundingDtype,
            "q, k and v after convolution and activation"),
      dtype("rounding.qk", GDN_AT(rounding.qk), RuleId::kRoundingDtype, "q and k after norm and scale"),
      dtype("rounding.beta", GDN_AT(rounding.beta), RuleId::kRoundingDtype, "beta"),
      dtype("rounding.o", GDN_AT(rounding.o), RuleId::kRoundingDtype, "o before the output norm, or as the output"),
      when(word("rounding.state", {say("nearest", false), say("stochastic", true)}, GDN_AT(rounding.state_stochastic),
                {RuleId::kStateRounding},
                "a 16-bit state as it is stored: nearest; stochastic: up with the probability of its distance from "
                "below, from a seed given at launch"),
           "pools.state is bf16 or fp16", narrow_state),
      when(dtype("rounding.norm", GDN_AT(rounding.norm), RuleId::kRoundingDtype, "o after the norm, before the weight"),
           "out_norm.kind is rms", normed_out),

      integer_or_unread("layers.count", GDN_AT(layers.count), "layers", {RuleId::kLayersRange},
                        "layers of the model, of all kinds"),
      integer("layers.base", GDN_AT(layers.base), "", {RuleId::kLayersBase},
              "what the list calls the first layer: 0, as the checkpoint's tensors do, or 1"),
      integers("layers.list", GDN_AT(layers.list), "", {RuleId::kLayersList},
               "the layers of this kind, one by one: no interval holds for every model"),
      words("projections.unquantised", parts, GDN_AT(projections.unquantised), {RuleId::kValueTwice},
            "parts whose projections keep 16 bits or more, whatever a quantiser does to the others"),
      when(word("projections.a", projections, GDN_AT(projections.a), {},
                "how the checkpoint makes a, the forget gate: low_rank, two matrices, or a single one"),
           "rule is kda", kda),
      when(integer("projections.a_rank", GDN_AT(projections.a_rank), "elements", {RuleId::kProjectionsRank},
                   "rows of its first matrix and columns of its second"),
           "rule is kda and projections.a is low_rank", [](const Spec& s) { return low_rank(s, s.projections.a); }),
      when(word("projections.z", projections, GDN_AT(projections.z), {},
                "how the checkpoint makes z, the output gate: low_rank, two matrices, or a single one"),
           "rule is kda", kda),
      when(integer("projections.z_rank", GDN_AT(projections.z_rank), "elements", {RuleId::kProjectionsRank},
                   "rows of its first matrix and columns of its second"),
           "rule is kda and projections.z is low_rank", [](const Spec& s) { return low_rank(s, s.projections.z); }),
  };
}

#undef GDN_AT

// What else people should know about a key.
struct Remark {
  std::string_view path;
  bool engine;
  std::string_view prevents;
};

constexpr bool kByModel = false, kByEngine = true;

constexpr Remark kRemarks[] = {
    {"gdn_gen", kByModel,
     "a spec of another version of the language read by the meaning that its keys have in this one"},
    {"name", kByModel, "kernels of two specs under one symbol"},
    {"model", kByModel, "a spec that tells nobody which release it was read from"},
    {"heads.key", kByModel, "rows of the same length cut for another model's heads"},
    {"heads.value", kByModel, "a group of 1 or 2 taken for granted: with 3, heads pair otherwise"},
    {"conv.width", kByModel, "taps of another width, and windows of another length"},
    {"conv.bias", kByModel, "a bias that a checkpoint has and a kernel leaves out"},
    {"qk_norm.kind", kByModel, "q and k normed twice or not at all, where model and kernel each leave it to the other"},
    {"decay.bound", kByModel, "a default in place of the model's bound: decays of another range, without an error"},
    {"out_norm.kind", kByEngine,
     "o normed and gated twice or not at all, where kernel and engine each leave it to the other; a gate without any "
     "norm, which one family's config can ask for, run with one"},
    {"rule", kByModel,
     "a decay per channel recognised by its shape, which fails where value heads outnumber key heads"},
    {"heads.pairing", kByEngine,
     "grouped heads of a checkpoint read as tiled heads of a GGUF file: same names and shapes in both"},
    {"dims.key", kByModel, "a fusion that hard-codes 128"},
    {"dims.value", kByModel, "K = V taken for granted: a state then reads the same both ways"},
    {"conv.activation", kByModel, "an activation left out on one of q, k and v"},
    {"conv.taps", kByEngine, "convolution for cross-correlation: the newest input meets the oldest weight"},
    {"conv.window", kByEngine, "width columns, width - 1, or some more for drafts: reading the wrong ones"},
    {"conv.anchor", kByEngine, "the last inputs looked for at the wrong end of a longer window"},
    {"qk_norm.eps", kByEngine, "the eps of another norm"},
    {"qk_norm.eps_at", kByEngine, "eps in the mean counts K times as much, and max is a third function"},
    {"qk_scale.q", kByEngine, "the scale applied twice or not at all, once inside and once outside a kernel"},
    {"qk_scale.k", kByEngine, "the scale split over q and k by one side only"},
    {"decay.input", kByEngine, "a raw projection handed to a kernel that expects the logarithm of the decay"},
    {"decay.form", kByModel, "softplus for the bounded form: the model repeats itself; a clamp is neither"},
    {"decay.threshold", kByEngine, "an exp that overflows"},
    {"decay.bound_key", kByModel,
     "a reader that looks for another key, finds none and takes its default, or the softplus form"},
    {"decay.a_log_entries", kByEngine,
     "padded entries cut by rank in place of the heads': wrong heads, without an error"},
    {"projections.a", kByModel, "the two matrices of a gate applied in the wrong order"},
    {"projections.a_rank", kByModel, "the two matrices of a gate cut at another rank than the checkpoint's"},
    {"projections.z", kByModel, "an output gate taken for another layer's matrix of the same name and shape"},
    {"projections.z_rank", kByModel, "the two matrices of a gate cut at another rank than the checkpoint's"},
    {"decay.a_log", kByEngine, "A_log and -exp(A_log) have one shape: most values silently wrong"},
    {"decay.handover", kByEngine, "ln, log2 and exp of the decay between two kernels of different authors"},
    {"beta.input", kByEngine, "sigmoid applied twice or not at all"},
    {"beta.factor", kByModel, "a model with negative eigenvalues run without them"},
    {"out_norm.span", kByModel, "a mean over the whole row for one over each head"},
    {"out_norm.eps", kByModel, "rms_norm_eps of the config where the layer hard-codes another"},
    {"out_norm.weight", kByEngine, "w, 1+w and 2*(1+w): this norm is often the only one of its model that differs"},
    {"out_norm.gate", kByModel, "silu for sigmoid; a gate dropped because its name was not known"},
    {"out_norm.order", kByModel, "the gate applied on the wrong side of the norm"},
    {"output_quant.kind", kByEngine, "8-bit numbers read without their scales"},
    {"output_quant.max", kByEngine, "448, 240 and 224 are all in use for one format: the scales differ"},
    {"output_quant.group", kByEngine, "a scale read for other channels than it was made for"},
    {"output_quant.floor_at", kByEngine, "scales of nearly silent groups that two engines do not agree on"},
    {"output_quant.floor", kByEngine, "the same"},
    {"output_quant.scale", kByEngine, "a power of two expected by a matrix product that reads the exponent only"},
    {"output_quant.from", kByEngine, "a fused kernel that quantises what the separate ones had rounded first"},
    {"output_quant.arithmetic", kByEngine, "the last place of a quantised number"},
    {"slots.dtype", kByEngine, "indices read at half their width"},
    {"slots.padding", kByEngine, "a padding row that writes the state of a sequence"},
    {"slots.padded_output", kByEngine, "rows of padding that are read later without being written"},
    {"slots.excess_output", kByEngine,
     "a buffer of the largest batch whose last rows are read as if they were of this one: numbers of an older batch, "
     "or "
     "of memory that nobody wrote"},
    {"prefill.kind", kByEngine, "whole sequences sent to kernels whose roundings and states nobody wrote down"},
    {"prefill.chunk", kByEngine, "a workspace made for chunks of another length"},
    {"prefill.offsets", kByEngine, "offsets read at half their width"},
    {"prefill.initial_states", kByEngine, "a new sequence that starts from what its slot's last owner left"},
    {"prefill.flags", kByEngine, "flags read at another width: every fourth of them, or four as one"},
    {"prefill.final_states", kByEngine, "a decode that continues from a state that nobody wrote"},
    {"prefill.empty", kByEngine, "a sequence without tokens whose slot is cleared"},
    {"prefill.qk", kByEngine, "q and k rounded between norm and product in one path only"},
    {"prefill.snapshots", kByEngine,
     "a prefix cache that hands out a slot whose state nobody wrote, or one without its windows"},
    {"speculative.tokens", kByEngine, "more tokens than a window has room for"},
    {"speculative.scheme", kByEngine, "the state of a rejected token taken for that of the accepted one"},
    {"speculative.counts", kByEngine, "one token too many or too few: the guaranteed one counted by one side only"},
    {"speculative.accepted", kByEngine, "counts read at half their width"},
    {"speculative.offsets", kByEngine, "offsets read at half their width"},
    {"rounding.conv", kByEngine, "two kernels that agree with nobody but themselves"},
    {"rounding.qk", kByEngine, "q and k rounded between norm and product in one path only"},
    {"rounding.beta", kByEngine, "gates rounded in one path only"},
    {"rounding.o", kByEngine, "a read-out that overflows in fp16 although the state is fp32"},
    {"rounding.state", kByEngine, "a 16-bit state that drifts one way over thousands of steps"},
    {"rounding.norm", kByEngine, "one rounding of the fused kernel, two of the reference"},
    {"layers.count", kByModel, "a last layer that breaks the pattern of the others"},
    {"layers.base", kByModel, "a list that counts from 1 read as one that counts from 0: every layer shifts by one"},
    {"layers.list", kByModel, "a rule such as every fourth layer, which the last layers of some models break"},
    {"projections.unquantised", kByModel, "a quantiser that takes the decay's and beta's projections too"},
};

}  // namespace

const std::vector<Key>& keys() {
  static const std::vector<Key> kKeys = [] {
    std::vector<Key> keys = make_keys();
    for (Key& key : keys) {
      for (const Remark& remark : kRemarks) {
        if (remark.path != key.path) continue;
        key.engine = remark.engine;
        key.prevents = remark.prevents;
      }
    }
    return keys;
  }();
  return kKeys;
}

const std::vector<OptionalSection>& optional_sections() {
  static const std::vector<OptionalSection> kSections = {
      {"speculative", "several tokens of a sequence in one launch: none, or the keys below",
       "drafts rolled back in another engine's way", [](const Spec& s) { return *s.speculative.given; },
       [](Spec& s, bool given, Place place) { s.speculative.given = {given, place}; }},
  };
  return kSections;
}

const OptionalSection* optional_section(std::string_view name) {
  for (const OptionalSection& section : optional_sections()) {
    if (section.name == name) return &section;
  }
  return nullptr;
}

const std::vector<LaterKey>& later_keys() {
  static const std::vector<LaterKey> kLater = {};
  return kLater;
}

}  // namespace gdn::spec

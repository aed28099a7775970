// The page of explain_html: data as JSON, one script that draws it. No link leads out of the file.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/identity.h"
#include "review/explain.h"

namespace gdn::review {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kMaxBlocks = 2000;  // of one drawing; beyond, neighbours are joined

ordered_json tensor_json(const layout::Layout& layout, const std::string& path, const layout::TensorLayout& tensor) {
  const core::Identity identity = layout::identity(layout, tensor);
  ordered_json parts = ordered_json::array();
  for (const layout::PartLayout& part : tensor.parts) {
    ordered_json axes = ordered_json::array();
    for (const layout::Axis& axis : part.axes) axes.push_back({axis.name, axis.size, axis.stride});
    parts.push_back({{"name", part.name}, {"offset", part.offset}, {"axes", std::move(axes)}});
  }
  std::vector<Block> blocks = blocks_of(layout, tensor, false);
  if (blocks.size() > kMaxBlocks) blocks = blocks_of(layout, tensor, true);
  ordered_json drawn = ordered_json::array();
  for (const Block& block : blocks) {
    std::size_t part = 0;
    while (tensor.parts[part].name != block.part) ++part;
    drawn.push_back({block.start, block.length, part, block.first_head});
  }
  return {{"path", path},
          {"dtype", core::to_string(tensor.dtype)},
          {"bytes", core::size_of(tensor.dtype)},
          {"list", tensor.list},
          {"domain", tensor.domain},
          {"identity", core::id_text(identity.id)},
          {"inner", tensor.inner},
          {"leading", tensor.leading == core::Leading::kNone ? "" : core::to_string(tensor.leading)},
          {"atLaunch", tensor.launch_stride},
          {"parts", std::move(parts)},
          {"blocks", std::move(drawn)}};
}

// Text inside an element.
std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

// JSON inside <script>: nothing in it may end the element.
std::string script_json(const ordered_json& json) {
  std::string out;
  for (const char c : json.dump(-1, ' ', true)) {
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  }
  return out;
}

constexpr const char* kHead = R"~(<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --fg: #1b1f24; --bg: #ffffff; --soft: #57606a; --line: #d0d7de; --panel: #f6f8fa;
  --p0: #4477aa; --p1: #ee6677; --p2: #228833; --p3: #ccbb44; --p4: #66ccee; --p5: #aa3377; }
@media (prefers-color-scheme: dark) { :root { --fg: #e6edf3; --bg: #0d1117; --soft: #9198a1; --line: #3d444d; --panel: #161b22;
  --p0: #6fa3d8; --p1: #f08a96; --p2: #4fb35f; --p3: #d9cb66; --p4: #7ad7f5; --p5: #d069a6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1rem; font: 16px/1.45 system-ui, sans-serif; color: var(--fg); background: var(--bg); }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 1.8rem 0 .3rem; }
h3 { font: 600 1rem ui-monospace, monospace; margin: 1.3rem 0 .2rem; overflow-wrap: anywhere; }
p, li { color: var(--soft); margin: .2rem 0; } code, .at, li { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere; }
ol { padding-left: 1.8rem; } li { color: var(--fg); margin: .35rem 0; }
svg { display: block; width: 100%; height: 3.2rem; box-shadow: 0 0 0 1px var(--line); touch-action: pan-y; cursor: crosshair; }
svg.near { height: 2.2rem; margin-top: .35rem; }
svg rect { stroke: var(--bg); stroke-width: 1px; vector-effect: non-scaling-stroke; } svg rect.odd { opacity: .72; }
svg rect.window { fill: none; stroke: var(--fg); stroke-width: 2px; }
svg line { stroke: var(--fg); stroke-width: 2px; vector-effect: non-scaling-stroke; }
.range { font-size: .8rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: .85rem; margin: .3rem 0; }
.legend span::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .35em; background: var(--c); vertical-align: -.05em; }
.at { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; min-height: 2.8rem; margin-top: .35rem; padding: .3rem .6rem; background: var(--panel); border: 1px solid var(--line); }
.at input { width: 8.5em; font: inherit; padding: .2rem .3rem; color: inherit; background: var(--bg); border: 1px solid var(--line); }
.at output { flex: 1 1 16rem; } @media (max-width: 40rem) { .at output { min-height: 3em; } p { font-size: .9rem; } }
</style>
)~";

constexpr const char* kScript = R"~(
const svgNs = 'http://www.w3.org/2000/svg';
const make = (tag, text, parent) => { const e = document.createElement(tag); if (text) e.textContent = text; parent.append(e); return e; };
const color = i => `var(--p${i % 6})`;
// The part and the coordinates of the element at an offset: each axis from the slowest, the way the offset was made.
function locate(tensor, offset) {
  for (const part of tensor.parts) {
    let rest = offset - part.offset;
    if (rest < 0) continue;
    const at = {};
    for (const [name, size, stride] of [...part.axes].sort((a, b) => b[2] - a[2])) {
      at[name] = Math.min(Math.floor(rest / stride), size - 1);
      rest -= at[name] * stride;
    }
    if (rest === 0) return [part, at];
  }
  return null;
}
function describe(tensor, offset) {
  const found = locate(tensor, offset);
  if (!found) return 'nothing lies here';
  const [part, at] = found, words = [part.name];
  let head = at.value_head;
  if ('group' in at) head = layer.grouped ? at.key_head * layer.group + at.group : at.group * layer.keyHeads + at.key_head;
  if (head !== undefined) {
    words.push(`value head ${head}`);
    words.push(`(reads key head ${layer.grouped ? Math.floor(head / layer.group) : head % layer.keyHeads})`);
  } else if ('key_head' in at) words.push(`key head ${at.key_head}`);
  if ('key_dim' in at) words.push(`key channel ${at.key_dim}`);
  if ('value_dim' in at) words.push(`value channel ${at.value_dim}`);
  if ('tap' in at) words.push(`tap ${at.tap}`);
  return words.join(' ');
}
// The whole row; below it, while an element is too narrow to point at, a strip that shows a small part of the one above.
class Strip {
  constructor(tensor, home, size, near) {
    this.tensor = tensor; this.size = size; this.from = 0; this.held = false; this.drawn = -1;
    this.svg = document.createElementNS(svgNs, 'svg');
    this.svg.setAttribute('preserveAspectRatio', 'none'); this.svg.setAttribute('role', 'img');
    this.svg.setAttribute('aria-label', near ? `a part of ${tensor.path}` : `${tensor.path} to scale`);
    if (near) this.svg.classList.add('near');
    home.append(this.svg);
    this.says = near ? make('p', '', home) : null;
    if (near) this.says.className = 'range';
    this.blocks = document.createElementNS(svgNs, 'g');
    this.window = document.createElementNS(svgNs, 'rect'); this.window.classList.add('window');
    this.mark = document.createElementNS(svgNs, 'line');
    for (const shape of [this.window, this.mark]) shape.style.display = 'none';
    this.svg.append(this.blocks, this.window, this.mark);
    this.fill();
  }
  place(offset) { this.from = Math.max(0, Math.min(this.tensor.inner - this.size, offset - Math.floor(this.size / 2))); }
  fill() {
    if (this.drawn === this.from) return;
    this.drawn = this.from;
    this.svg.setAttribute('viewBox', `${this.from} 0 ${this.size} 100`);
    const end = this.from + this.size, elements = this.size < 200 && this.size < this.tensor.inner;
    const rects = [];
    const add = (start, length, part, odd) => {
      const rect = document.createElementNS(svgNs, 'rect');
      rect.setAttribute('x', start); rect.setAttribute('width', length); rect.setAttribute('height', 100);
      rect.style.fill = color(part); if (odd) rect.classList.add('odd');
      rects.push(rect);
    };
    for (const [start, length, part, head] of this.tensor.blocks) {
      const first = Math.max(start, this.from), last = Math.min(start + length, end);
      if (first >= last) continue;
      if (!elements) { add(first, last - first, part, head % 2); continue; }
      for (let element = first; element < last; ++element) add(element, 1, part, element % 2);
    }
    this.blocks.replaceChildren(...rects);
    if (this.says) this.says.textContent = `${this.from} to ${end - 1}` + (elements ? ', one by one' : '');
  }
  draw(offset, below) {
    this.fill();
    const inside = offset >= this.from && offset < this.from + this.size;
    this.mark.style.display = inside && !below ? '' : 'none';
    this.mark.setAttribute('x1', offset + .5); this.mark.setAttribute('x2', offset + .5); this.mark.setAttribute('y2', 100);
    if (!below) return;
    this.window.style.display = '';
    this.window.setAttribute('x', below.from); this.window.setAttribute('width', below.size); this.window.setAttribute('height', 100);
  }
}
function stripsOf(tensor, home) {
  const strips = [new Strip(tensor, home, tensor.inner, false)];
  for (let size = tensor.inner; size > 96;) {
    size = Math.max(32, Math.ceil(size / 128));
    strips.push(new Strip(tensor, home, size, true));
  }
  return strips;
}
for (const tensor of layer.tensors) {
  const home = make('section', '', document.getElementById('tensors'));
  home.dataset.tensor = tensor.path;
  make('h3', tensor.path, home);
  const note = make('p', '', home);
  make('code', `${tensor.dtype} ${tensor.list}`, note);
  make('p', `${tensor.inner} elements, ${tensor.inner * tensor.bytes} bytes` + (tensor.leading ? ` a ${tensor.leading}` + (tensor.atLaunch ? ', stride given at launch' : '') : '') +
    (tensor.domain ? `; ${tensor.domain}` : '') + `; identity ${tensor.identity}`, home);
  const legend = make('div', '', home); legend.className = 'legend';
  tensor.parts.forEach((part, i) => make('span', `${part.name} from ${part.offset}`, legend).style.setProperty('--c', color(i)));
  const at = document.createElement('div'); at.className = 'at';
  const label = make('label', 'element ', at), input = make('input', '', label), says = make('output', 'point at a strip, or type an offset', at);
  input.type = 'number'; input.min = 0; input.max = tensor.inner - 1; input.step = 1;
  const strips = stripsOf(tensor, home);
  home.append(at);
  // Where pointing at an offset of strip `from` leads: the strips below it show its surroundings, down to one that a click holds.
  const show = (offset, from) => {
    for (let i = from + 1; i < strips.length && !strips[i].held; ++i) strips[i].place(offset);
    strips.forEach((strip, i) => strip.draw(offset, strips[i + 1]));
    says.textContent = `${describe(tensor, offset)} (byte ${offset * tensor.bytes})`;
    input.value = offset;
  };
  strips.forEach((strip, i) => {
    const offset = event => {
      const box = strip.svg.getBoundingClientRect();
      const element = strip.from + Math.floor((event.clientX - box.left) / box.width * strip.size);
      return Math.max(strip.from, Math.min(strip.from + strip.size - 1, element));
    };
    strip.svg.addEventListener('pointermove', event => show(offset(event), i));
    strip.svg.addEventListener('pointerdown', event => {
      for (let j = i + 1; j < strips.length; ++j) strips[j].held = false;
      show(offset(event), i);
      if (i + 1 < strips.length) strips[i + 1].held = true;
    });
  });
  input.addEventListener('input', () => {
    const offset = Number(input.value);
    if (input.value === '' || !Number.isInteger(offset) || offset < 0 || offset >= tensor.inner) { says.textContent = `offsets are 0 to ${tensor.inner - 1}`; return; }
    for (const strip of strips) strip.held = false;
    show(offset, 0);
  });
  // page.html#inputs.qkvz:768 shows that element: a link for a review.
  const [path, element] = decodeURIComponent(location.hash.slice(1)).split(':');
  if (path === tensor.path && element >= 0 && element < tensor.inner) { show(Number(element), 0); setTimeout(() => home.scrollIntoView()); }
}
)~";

}  // namespace

std::string explain_html(const Side& side) {
  const core::Facts& n = side.layout.numbers;
  ordered_json tensors = ordered_json::array();
  for (const Section& section : sections_of(side)) {
    for (const TensorPair& tensor : section.tensors) {
      tensors.push_back(tensor_json(side.layout, section.name + "." + *tensor.written->name, *tensor.resolved));
    }
  }
  const ordered_json layer = {{"keyHeads", n.key_heads},
                              {"group", n.group},
                              {"grouped", n.pairing == core::Pairing::kGrouped},
                              {"tensors", std::move(tensors)}};
  std::string html = "<!doctype html>\n<html lang=\"en\">\n<head>\n";
  html += fmt::format("<title>{}: layout</title>\n", escape(side.layout.spec)) + kHead + "</head>\n<body>\n";
  html += fmt::format(
      "<h1>{} ({})</h1>\n<p>{} key heads of {}, {} value heads of {}; {}. Drawn to scale: the width of a "
      "colour is its share of the row, shades tell heads apart. Point at a strip: the strips below it show what lies "
      "there, "
      "a click holds them.</p>\n",
      escape(*side.spec.model), escape(side.layout.spec), n.key_heads, n.key_dim, n.value_heads, n.value_dim,
      n.group == 1                           ? "value head h reads key head h"
      : n.pairing == core::Pairing::kGrouped ? fmt::format("value head h reads key head h / {}", n.group)
                                             : fmt::format("value head h reads key head h % {}", n.key_heads));
  html += "<h2>One token, per value head</h2>\n<ol>\n";
  for (const std::string& line : formulas_of(side)) html += fmt::format("<li>{}</li>\n", escape(line));
  html += "</ol>\n<h2>Where everything lies</h2>\n<div id=\"tensors\"></div>\n<script>\nconst layer = ";
  return html + script_json(layer) + ";" + kScript + "</script>\n</body>\n</html>\n";
}

}  // namespace gdn::review

"""The page of ``workshop watch``: plain HTML and a little JavaScript that draws with SVG; nothing is fetched from elsewhere."""

from __future__ import annotations

import json


def page(data: dict | None) -> str:
    """The page; with ``data`` (as from ``watched``) it shows that and asks nobody, else it asks its server every two seconds."""
    # "<" would end the script where a sample holds "</script>".
    embedded = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return _PAGE.replace("/*DATA*/null", embedded)


_PAGE = """<!doctype html>
<html lang="ko"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>학습 지켜보기</title>
<style>
:root { --ink:#1f2430; --faint:#6b7484; --line:#e3e6ec; --blue:#3056d3; --orange:#d9622b; --green:#1a8f6f; }
* { box-sizing:border-box } body { font:15px/1.55 system-ui,"Noto Sans KR","Apple SD Gothic Neo","Malgun Gothic",sans-serif;
 color:var(--ink); margin:0; background:#f6f7f9 }
main { max-width:1080px; margin:0 auto; padding:20px 16px 48px } h1 { font-size:21px; margin:0 } h2 { font-size:16px; margin:26px 0 8px }
header { display:flex; gap:12px; align-items:center; flex-wrap:wrap } select { font:inherit; padding:3px 6px; max-width:100% }
.state { border-radius:10px; padding:1px 10px; font-size:13px; color:#fff; background:var(--faint) }
.state.running { background:var(--green) } .state.stopped { background:var(--orange) }
.bar { height:8px; border-radius:4px; background:var(--line); margin:14px 0 6px; overflow:hidden }
.bar div { height:100%; width:0; background:var(--blue) }
.figures { display:flex; flex-wrap:wrap; gap:4px 22px; color:var(--faint) } .figures b { color:var(--ink); font-variant-numeric:tabular-nums }
.plan { color:var(--faint); font-size:13px; margin-top:6px; overflow-wrap:anywhere }
.charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(320px,1fr)); gap:14px; margin-top:16px }
figure { margin:0; background:#fff; border:1px solid var(--line); border-radius:8px; padding:10px 12px 6px }
figcaption { font-weight:600; font-size:14px; display:flex; gap:14px; flex-wrap:wrap } figcaption span { font-weight:400; color:var(--faint) }
svg { width:100%; height:auto; display:block } svg text { font-size:11px; fill:var(--faint) }
.sample { background:#fff; border:1px solid var(--line); border-radius:8px; padding:8px 12px; margin-top:8px; overflow-wrap:anywhere }
.sample b { color:var(--faint); margin-right:8px } .bad { color:var(--orange) }
</style></head><body><main>
<header><h1>학습 지켜보기</h1><span class="state" id="state"></span><select id="runs" aria-label="실행 고르기"></select></header>
<div class="bar" role="progressbar"><div id="bar"></div></div><div class="figures" id="figures"></div><div class="plan" id="plan"></div>
<div class="charts" id="charts"></div><h2 id="written" hidden>평가할 때마다 쓴 글</h2><div id="samples"></div>
</main><script>
"use strict";
const FIXED = /*DATA*/null;
const $ = id => document.getElementById(id);
const STATES = {running: "학습 중", finished: "끝남", stopped: "멈춤", none: "실행 없음", lost: "연결 끊김"};
const CHARTS = [
  {title: "손실", lines: [["loss", "학습", "#3056d3", "noisy"], ["valid_loss", "검증", "#d9622b", "dots"]]},
  {title: "비트/바이트", lines: [["bits_per_byte", "검증", "#1a8f6f", "dots"]]},
  {title: "학습률", lines: [["learning_rate", "", "#3056d3", "plain"]]},
  {title: "기울기 크기", lines: [["grad_norm", "자르기 전", "#9b4dca", "noisy"]]},
  {title: "초당 토큰", lines: [["tokens_per_second", "", "#b58900", "noisy"]]},
];
const W = 460, H = 210, L = 52, R = 12, T = 10, B = 26;
function el(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  return made;
}
function number(x) {
  if (x === null || x === undefined) return "–";
  const size = Math.abs(x);
  if (size >= 1000) return Math.round(x).toLocaleString("ko");
  if (size !== 0 && size < 0.01) return x.toExponential(1);
  return String(+x.toPrecision(4));
}
function clock(seconds) {
  const s = Math.round(seconds), two = n => String(n).padStart(2, "0");
  return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}
function ticks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough), found = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}
function draw(chart, records, steps) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), svg = el("svg", {viewBox: `0 0 ${W} ${H}`});
  caption.textContent = chart.title;
  const lines = chart.lines.map(([key, name, color, kind]) =>
    ({name, color, kind, points: records.filter(r => Number.isFinite(r[key])).map(r => [r.step, r[key]])})).filter(l => l.points.length);
  if (!lines.length) return null;
  const values = lines.flatMap(l => l.points.map(p => p[1])).sort((a, b) => a - b);
  // One spike must not flatten the rest: the highest of a hundred goes over the edge.
  let low = values[0], high = values[Math.min(values.length - 1, Math.floor(values.length * 0.995))];
  if (high <= low) { const half = Math.abs(low) * 0.05 || 1; low -= half; high += half; }
  const pad = (high - low) * 0.05; low -= low - pad < 0 && low >= 0 ? Math.min(pad, low) : pad; high += pad;
  const last = Math.max(2, steps || 0, records[records.length - 1].step);
  const x = step => L + (step - 1) / (last - 1) * (W - L - R), y = v => T + (high - Math.min(Math.max(v, low), high)) / (high - low) * (H - T - B);
  for (const tick of ticks(low, high)) {
    svg.append(el("line", {x1: L, x2: W - R, y1: y(tick), y2: y(tick), stroke: "#e3e6ec"}));
    svg.append(el("text", {x: L - 6, y: y(tick) + 4, "text-anchor": "end"}, number(tick)));
  }
  for (const tick of ticks(1, last)) svg.append(el("text", {x: x(Math.max(1, tick)), y: H - 8, "text-anchor": "middle"}, number(tick)));
  for (const record of records) if ((record.bad_steps || []).length)
    svg.append(el("line", {x1: x(record.step), x2: x(record.step), y1: T, y2: H - B, stroke: "#d9622b", "stroke-dasharray": "3 3"}));
  for (const line of lines) {
    const path = points => "M" + points.map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join("L");
    const many = line.kind === "noisy" && line.points.length > 60;
    svg.append(el("path", {d: path(line.points), fill: "none", stroke: line.color, "stroke-width": many ? 1 : 1.8, opacity: many ? 0.3 : 1}));
    if (many) {
      let mean = line.points[0][1];
      const smooth = line.points.map(([s, v]) => [s, mean += (v - mean) * Math.min(1, 20 / line.points.length + 0.03)]);
      svg.append(el("path", {d: path(smooth), fill: "none", stroke: line.color, "stroke-width": 1.8}));
    }
    if (line.kind === "dots") for (const [s, v] of line.points) svg.append(el("circle", {cx: x(s), cy: y(v), r: 3, fill: line.color}));
    const legend = document.createElement("span");
    legend.textContent = `${line.name} ${number(line.points[line.points.length - 1][1])}`.trim();
    legend.style.color = line.color;
    caption.append(legend);
  }
  figure.append(caption, svg);
  return figure;
}
function show(data) {
  $("state").textContent = STATES[data.state]; $("state").className = "state " + data.state;
  const select = $("runs"), names = data.runs || [];
  if (select.options.length !== names.length || names.some((n, i) => select.options[i].value !== n)) {
    select.replaceChildren(...names.map(n => new Option(n, n)));
  }
  select.value = data.name || "";
  select.hidden = !names.length;
  const records = data.records, end = records[records.length - 1];
  const bad = records.reduce((n, r) => n + (r.bad_steps || []).length, 0);
  $("bar").style.width = end && data.steps ? `${100 * end.step / data.steps}%` : "0";
  const figures = end ? [["걸음", number(end.step) + (data.steps ? " / " + number(data.steps) : "")], ["손실", number(end.loss)],
    ["지난 시간", clock(end.seconds || 0)], ...(data.seconds_to_go != null ? [["남은 시간", clock(data.seconds_to_go)]] : []),
    ...(end.mfu ? [["MFU", Math.round(end.mfu * 100) + " %"]] : []), ...(bad ? [["건너뛰거나 되돌린 걸음", bad]] : [])]
    : [["", "아직 걸음이 없습니다. 학습이 시작되면 여기에 나타납니다."]];
  $("figures").replaceChildren(...figures.map(([name, value]) => {
    const span = document.createElement("span"), bold = document.createElement("b");
    bold.textContent = value; span.append(name + " ", bold); return span;
  }));
  $("plan").textContent = data.summary || "";
  $("charts").replaceChildren(...(end ? CHARTS.map(c => draw(c, records, data.steps)).filter(Boolean) : []));
  $("written").hidden = !data.samples.length;
  $("samples").replaceChildren(...[...data.samples].reverse().map(sample => {
    const div = document.createElement("div"), bold = document.createElement("b");
    const losses = Object.entries(sample.sources || {}).map(([n, v]) => `${n} ${number(v)}`).join(", ");
    div.className = "sample"; bold.textContent = `걸음 ${number(sample.step)}`; div.append(bold, sample.text, losses ? ` (검증 손실: ${losses})` : "");
    return div;
  }));
}
let chosen = null;
async function ask() {
  try { show(await (await fetch("data" + (chosen ? "?run=" + encodeURIComponent(chosen) : ""))).json()); }
  catch (error) { $("state").textContent = STATES.lost; $("state").className = "state stopped"; }
}
if (FIXED) { show(FIXED); } else { $("runs").onchange = e => { chosen = e.target.value; ask(); }; ask(); setInterval(ask, 2000); }
</script></body></html>
"""

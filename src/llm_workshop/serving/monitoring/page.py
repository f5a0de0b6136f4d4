"""The page of the built-in view: one file that asks nobody but the server it came from."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --paper:#f6f7f9; --card:#fff; --ink:#1f2430; --soft:#5b6472; --line:#e1e5ec;
  --c0:#3056d3; --c1:#c2541f; --c2:#16795f; --c3:#8440b3; --c4:#8a6a00; --c5:#b3261e; --good:#16795f; --bad:#b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper:#12151b; --card:#1b2029; --ink:#e8ebf1; --soft:#a1abbb; --line:#303744;
  --c0:#8aa6ff; --c1:#f2976a; --c2:#52c9a6; --c3:#cf9bf2; --c4:#dcb84c; --c5:#ff8a80; --good:#52c9a6; --bad:#ff8a80; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--paper); color:var(--ink); font:15px/1.55 system-ui,"Noto Sans KR","NanumGothic","Apple SD Gothic Neo",sans-serif; }
main { max-width:1180px; margin:0 auto; padding:24px 18px 48px; }
header { display:flex; flex-wrap:wrap; align-items:baseline; gap:8px 16px; margin-bottom:16px; }
h1 { font-size:22px; margin:0; }
#state { font-weight:600; } #state::before { content:"●"; margin-right:6px; }
#state.up { color:var(--good); } #state.down { color:var(--bad); }
#where { color:var(--soft); font-size:13px; }
fieldset { margin:0 0 0 auto; padding:0; border:0; display:flex; gap:4px; }
button { font:inherit; font-size:13px; padding:3px 11px; border:1px solid var(--line); border-radius:7px; background:var(--card); color:var(--soft); cursor:pointer; }
button[aria-pressed=true] { color:var(--ink); border-color:var(--ink); }
button:focus-visible { outline:2px solid var(--c0); outline-offset:2px; }
#problem { border:1px solid var(--bad); border-radius:10px; padding:10px 14px; margin-bottom:16px; overflow-wrap:anywhere; }
#problem[hidden] { display:none; }
#tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(150px,1fr)); gap:12px; margin-bottom:12px; }
.tile, .chart { background:var(--card); border:1px solid var(--line); border-radius:12px; padding:12px 14px; }
.tile b { display:block; font-size:24px; font-weight:650; font-variant-numeric:tabular-nums; line-height:1.25; white-space:nowrap; }
.tile span { color:var(--soft); font-size:13px; }
#charts { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr)); gap:12px; }
.chart { margin:0; position:relative; }
.chart h2 { font-size:15px; margin:0; } .chart p { margin:0 0 4px; color:var(--soft); font-size:13px; min-height:2.9em; word-break:keep-all; }
.legend { display:flex; flex-wrap:wrap; gap:2px 14px; font-size:13px; min-height:1.6em; }
.legend i { display:inline-block; width:10px; height:10px; border-radius:3px; margin-right:6px; }
.legend b { font-variant-numeric:tabular-nums; font-weight:600; }
svg { display:block; width:100%; height:150px; overflow:visible; touch-action:pan-y; }
svg text { fill:var(--soft); font-size:11px; font-variant-numeric:tabular-nums; }
.none { fill:var(--soft); }
footer { color:var(--soft); font-size:13px; margin-top:18px; }
@media (max-width:480px) { main { padding:16px 10px 32px; } .tile b { font-size:20px; } }
"""

BODY = """
<main>
<header><h1>서버 지켜보기</h1><span id="state" role="status">확인하는 중</span><span id="where"></span>
<fieldset aria-label="보여 줄 시간"><button data-minutes="2">2분</button><button data-minutes="5">5분</button><button data-minutes="15">15분</button></fieldset></header>
<div id="problem" role="alert" hidden></div>
<section id="tiles" aria-label="지금의 값"></section>
<section id="charts" aria-label="그래프"></section>
<footer>Triton의 <code>/metrics</code>를 읽어 메모리에만 담아 둡니다. 이 화면을 띄운 프로그램을 끄면 기록도 사라집니다.
오래 두고 보려면 Prometheus와 Grafana를 쓰세요.</footer>
</main>
"""

SCRIPT = r"""
"use strict";
const MIB = 1048576, GIB = 1073741824;
const OUTCOMES = [["stop","끝까지 답함","--c2"],["length","길이 제한","--c0"],["cancelled","그만둠","--c4"],["busy","붐벼서 거절","--c1"],["invalid","잘못된 요청","--c3"],["error","오류","--c5"]];
const number = (v, digits) => v == null ? "–" : v.toLocaleString("ko-KR", {maximumFractionDigits: digits ?? (Math.abs(v) >= 100 ? 0 : 1), minimumFractionDigits: 0});
const seconds = v => v == null ? "–" : v < 1 ? number(v * 1000, v < 0.1 ? 1 : 0) + " ms" : number(v, 2) + "초";
const bytes = v => v == null ? "–" : v >= GIB ? number(v / GIB, 2) + " GiB" : number(v / MIB, 0) + " MiB";
const count = v => number(v, 1);
const clock = t => new Date(t * 1000).toLocaleTimeString("en-GB");
const CHARTS = [
  {title:"토큰 처리량", about:"1초에 만든 토큰과 읽은 프롬프트 토큰", format:count, series:[["생성","--c0",p=>p.tokens_per_second],["프롬프트","--c2",p=>p.prompt_tokens_per_second]]},
  {title:"요청", about:"답하고 있는 요청과 자리가 나기를 기다리는 요청", format:count, series:[["실행 중","--c0",p=>p.running],["대기 중","--c1",p=>p.waiting]]},
  {title:"배치 크기", about:"한 스텝에 만든 토큰 수. 클수록 가중치를 한 번 읽어 더 많은 요청에 답합니다.", format:count, series:[["토큰/스텝","--c0",p=>p.batch_size]]},
  {title:"첫 토큰까지의 시간 (TTFT)", about:"요청이 도착해서 첫 토큰이 나올 때까지", format:seconds, series:[["평균","--c0",p=>p.first_token],["p95","--c1",p=>p.first_token_p95]]},
  {title:"끝난 요청", about:"어떻게 끝났는지 시간 구간마다 센 수", format:count, bars:true, series:OUTCOMES.map(([k,name,color])=>[name,color,p=>p.up ? (p.requests[k] || 0) : null])},
  {title:"메모리", about:"실제로 차지한 메모리(RSS). 시간이 흘러도 평평해야 합니다.", format:bytes, series:[["엔진","--c0",p=>p.engine_bytes],["Triton","--c2",p=>p.server_bytes]]},
];
const TILES = [
  ["초당 토큰", p=>number(p.tokens_per_second)], ["실행 중인 요청", p=>number(p.running,0)], ["대기 중인 요청", p=>number(p.waiting,0)],
  ["배치 크기", p=>number(p.batch_size,1)], ["첫 토큰까지", p=>seconds(p.first_token)], ["엔진 메모리", p=>bytes(p.engine_bytes)],
];
const W = 420, H = 150, LEFT = 54, BOTTOM = 20, TOP = 8, NS = "http://www.w3.org/2000/svg";
let points = [], minutes = 5, every = 2, totals = {}, hover = null;
const $ = id => document.getElementById(id);
const el = (tag, attributes, text) => { const e = document.createElementNS(NS, tag); for (const k in attributes) e.setAttribute(k, attributes[k]); if (text != null) e.textContent = text; return e; };
const html = (tag, text, name) => { const e = document.createElement(tag); if (text != null) e.textContent = text; if (name) e.className = name; return e; };

for (const [name] of TILES) { const tile = html("div", null, "tile"); tile.append(html("span", name), html("b", "–")); $("tiles").append(tile); }
for (const chart of CHARTS) {
  const figure = html("figure", null, "chart"), svg = el("svg", {viewBox:`0 0 ${W} ${H}`, preserveAspectRatio:"none", role:"img", "aria-label":chart.title});
  chart.legend = html("div", null, "legend"); chart.svg = svg;
  figure.append(html("h2", chart.title), html("p", chart.about), chart.legend, svg); $("charts").append(figure);
  svg.addEventListener("pointermove", e => { const box = svg.getBoundingClientRect(); hover = (e.clientX - box.left) / box.width * chart.width; draw(); });
  svg.addEventListener("pointerleave", () => { hover = null; draw(); });
}
for (const button of document.querySelectorAll("button[data-minutes]")) button.addEventListener("click", () => { minutes = +button.dataset.minutes; draw(); });

function ceiling(v, isBytes) {
  if (!(v > 0)) return isBytes ? MIB : 1;
  const unit = !isBytes ? 1 : v > GIB / 2 ? GIB : MIB, scaled = v / unit, power = 10 ** Math.floor(Math.log10(scaled));
  return unit * power * [1, 2, 2.5, 5, 10].find(m => m * power >= scaled * 0.9999);
}
function drawChart(chart, shown, start, end) {
  const svg = chart.svg; svg.replaceChildren();
  const width = Math.max(260, svg.clientWidth || W); chart.width = width; svg.setAttribute("viewBox", `0 0 ${width} ${H}`);
  const used = chart.bars ? chart.series.filter(s => shown.some(p => s[2](p) > 0)) : chart.series;
  const heights = shown.map(p => chart.bars ? used.reduce((sum, s) => sum + (s[2](p) || 0), 0) : Math.max(...used.map(s => s[2](p) ?? 0), 0));
  const top = ceiling(Math.max(...heights, 0), chart.format === bytes);
  const x = t => LEFT + (t - start) / (end - start) * (width - LEFT - 6), y = v => H - BOTTOM - v / top * (H - BOTTOM - TOP);
  for (const share of [0, 0.5, 1]) {
    svg.append(el("line", {x1:LEFT, x2:width - 6, y1:y(top * share), y2:y(top * share), stroke:"var(--line)"}));
    svg.append(el("text", {x:LEFT - 6, y:y(top * share) + 4, "text-anchor":"end"}, chart.format(top * share)));
  }
  for (const [t, anchor] of [[start, "start"], [(start + end) / 2, "middle"], [end, "end"]])
    svg.append(el("text", {x:x(t), y:H - 4, "text-anchor":anchor}, clock(t)));
  const at = hover == null ? null : shown.reduce((best, p) => best == null || Math.abs(x(p.time) - hover) < Math.abs(x(best.time) - hover) ? p : best, null);
  if (chart.bars) {
    const wide = Math.max(1, every / (end - start) * (width - LEFT - 6) - 1);
    for (const p of shown) { let below = 0; for (const s of used) { const v = s[2](p) || 0; if (v) svg.append(el("rect", {x:x(p.time) - wide, y:y(below + v), width:wide, height:y(below) - y(below + v), fill:`var(${s[1]})`})); below += v; } }
  } else for (const s of used) {
    let path = "", dots = [], last = null;
    for (const p of shown) {
      const v = s[2](p); if (v == null) { last = null; continue; }
      const near = last != null && p.time - last < 3 * every; const place = `${x(p.time).toFixed(1)} ${y(v).toFixed(1)}`; path += near ? `L${place}` : `M${place}L${place}`; dots.push([p, v]); last = p.time;
    }
    svg.append(el("path", {d:path, fill:"none", stroke:`var(${s[1]})`, "stroke-width":2, "stroke-linejoin":"round", "stroke-linecap":"round"}));
    const mark = at ? dots.find(d => d[0] === at) : null;
    if (mark) svg.append(el("circle", {cx:x(mark[0].time), cy:y(mark[1]), r:3.5, fill:`var(${s[1]})`}));
  }
  if (!shown.some(p => chart.series.some(s => chart.bars ? s[2](p) > 0 : s[2](p) != null)))
    svg.append(el("text", {x:(width + LEFT) / 2, y:(H - BOTTOM) / 2, "text-anchor":"middle", class:"none"}, "아직 기록이 없습니다"));
  if (at) svg.append(el("line", {x1:x(at.time), x2:x(at.time), y1:TOP, y2:H - BOTTOM, stroke:"var(--soft)", "stroke-dasharray":"3 3"}));
  chart.legend.replaceChildren(...(chart.bars && !used.length ? [] : used).map(s => {
    const item = html("span"), swatch = html("i"); swatch.style.background = `var(${s[1]})`;
    const own = shown.filter(p => s[2](p) != null).at(-1);
    const value = at ? s[2](at) : chart.bars ? shown.reduce((sum, p) => sum + (s[2](p) || 0), 0) : own ? s[2](own) : null;
    item.append(swatch, `${s[0]} `, html("b", chart.format(value))); return item;
  }));
  if (at) chart.legend.append(html("span", clock(at.time)));
}
function draw() {
  for (const button of document.querySelectorAll("button[data-minutes]")) button.setAttribute("aria-pressed", String(+button.dataset.minutes === minutes));
  const end = points.length ? points.at(-1).time : Date.now() / 1000, start = Math.max(end - 60 * minutes, Math.min(points.length ? points[0].time : end, end - 30));
  const shown = points.filter(p => p.time >= start), last = points.at(-1) || {};
  TILES.forEach(([, value], i) => $("tiles").children[i].querySelector("b").textContent = value(last));
  CHARTS.forEach(chart => drawChart(chart, shown, start, end));
}
function state(up, text, problem) {
  $("state").className = up ? "up" : "down"; if ($("state").textContent !== text) $("state").textContent = text;
  $("problem").hidden = !problem; if (problem && $("problem").textContent !== problem) $("problem").textContent = problem;
}
async function refresh() {
  try {
    const since = points.length ? points.at(-1).time : 0;
    const answer = await fetch(`${location.pathname.replace(/\/$/, "")}/data?since=${since}`, {cache:"no-store", signal:AbortSignal.timeout(10000)});
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const report = await answer.json();
    every = report.every; points = points.concat(report.points).slice(-1000);
    const all = Object.values(report.totals.requests || {}).reduce((a, b) => a + b, 0);
    const told = report.models.length ? ` · 모델 ${report.models.join(", ")} · 시작한 뒤로 요청 ${number(all, 0)}개, 토큰 ${number(report.totals.tokens, 0)}개` : "";
    $("where").textContent = report.address + told;
    if (report.problem) state(false, "응답 없음", "Triton이 응답하지 않습니다. 서버가 켜져 있는지 확인하세요. (" + report.problem + ")");
    else state(points.length > 0, points.length ? "작동 중" : "확인하는 중", null);
  } catch (error) { state(false, "끊김", "이 페이지를 보낸 프로그램이 응답하지 않습니다. 다시 켜면 저절로 이어집니다."); }
  draw(); setTimeout(refresh, Math.max(500, every * 1000));
}
addEventListener("resize", draw); draw(); refresh();
"""

PAGE = f"""<!DOCTYPE html>
<html lang="ko"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>서버 지켜보기</title><link rel="icon" href="data:,"><style>{STYLE}</style></head><body>{BODY}<script>{SCRIPT}</script></body></html>
"""

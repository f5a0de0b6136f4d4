"""The conversation on the page: a Gradio HTML component that draws turns, with buttons under each.

Gradio's own Chatbot takes every message for Markdown or none; here what people type stays literal while answers are
formatted, an answer that grows is patched where it changed (so that nothing flickers and a selection stays), and a
thumb opens a field for a better answer.  The value is ``{"turns": [...], "busy": bool, "draft": {...} | null,
"hello": {...}}``: the browser holds the conversation, the server keeps nothing between two questions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from llm_workshop.serving import words
from llm_workshop.serving.markdown import to_html
from llm_workshop.serving.session import Draft
from llm_workshop.serving.turns import Turn, is_markdown


def browser_value(turns: list[Turn], hello: dict[str, Any], busy: bool = False, draft: Draft | None = None) -> dict[str, Any]:
    """What the script draws; answers get their HTML here, so that none comes from anywhere else."""
    drawn = [{**turn, "html": to_html(turn["content"])} if is_markdown(turn) else turn for turn in turns]
    return {"turns": drawn, "busy": busy, "draft": draft._asdict() if draft else None, "hello": hello}


def hello(mode: str, chats: bool) -> dict[str, Any]:
    """What an empty conversation shows."""
    title, line = words.welcome(mode, chats)
    return {"title": title, "line": line, "examples": list(words.EXAMPLES[mode])}


def chat_log(value: dict[str, Any], rate: Callable[[dict], dict] | None, several_models: bool) -> gr.HTML:
    """The component; its events are ``ask`` {text}, ``again`` {index} and ``revise`` {index, text}.

    ``rate`` is called by the thumbs with {id, tab, turns, rating, correction} and returns {"error": text or null};
    None leaves the thumbs out.
    """
    return gr.HTML(
        value,
        html_template='<div class="log" role="log" tabindex="0"></div>',
        js_on_load=SCRIPT,
        elem_id="chat",
        apply_default_css=False,
        padding=False,
        server_functions=[rate] if rate else None,
        words=words.LOG,
        thumbs=rate is not None,
        several=several_models,
    )


SCRIPT = r"""
const log = element.querySelector('.log'), W = props.words;
// A random number for this tab: it joins ratings of one sitting and says nothing about the person.
const tab = Array.from(crypto.getRandomValues(new Uint8Array(8)), b => b.toString(16).padStart(2, '0')).join('');
const ratings = new Map();
let rows = [], shown = { turns: [] }, atEnd = true;

const ICONS = {
  copy: '<rect x="8" y="8" width="12" height="12" rx="2.5"/><path d="M16 8V6a2 2 0 0 0-2-2H6a2 2 0 0 0-2 2v8a2 2 0 0 0 2 2h2"/>',
  done: '<path d="M5 12.5l4.5 4.5L19 7.5"/>',
  again: '<path d="M19 12a7 7 0 1 1-2.2-5.1"/><path d="M19.5 3.5V8H15"/>',
  edit: '<path d="M5 19l1-4L16 5l3 3L9 18z"/><path d="M14 7l3 3"/>',
  up: '<path d="M8 11v9H5v-9z"/><path d="M8 11l3.5-7c1.6 0 2.4 1.2 2 2.8L13 9.5h5c1.3 0 2 1 1.7 2.2l-1.6 6.6c-.3 1-1 1.7-2.1 1.7H8"/>',
};
ICONS.down = `<g transform="rotate(180 12 12)">${ICONS.up}</g>`;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}
function icon(name) {
  return `<svg viewBox="0 0 24 24" width="17" height="17" fill="none" stroke="currentColor" stroke-width="1.7"
    stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">${ICONS[name]}</svg>`;
}
function tool(name, label, act) {
  const button = make('button', 'tool ' + name);
  button.type = 'button'; button.title = label; button.setAttribute('aria-label', label);
  button.innerHTML = icon(name);
  button.addEventListener('click', () => act(button));
  return button;
}
function action(label, className, act) {
  const button = make('button', className, label);
  button.type = 'button';
  button.addEventListener('click', () => act(button));
  return button;
}
async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); }
  catch {  // only secure pages have a clipboard; selecting works everywhere
    const area = make('textarea', 'offstage'); area.value = text; document.body.append(area);
    area.select(); document.execCommand('copy'); area.remove();
  }
  const before = button.innerHTML;
  if (button.classList.contains('tool')) button.innerHTML = icon('done'); else button.textContent = W.copied;
  button.classList.add('on');
  setTimeout(() => { button.innerHTML = before; button.classList.remove('on'); }, 1200);
}

// Replace only the blocks that differ: earlier paragraphs of a growing answer are left alone.
function patch(node, html) {
  const fresh = make('template'); fresh.innerHTML = html;
  const now = Array.from(node.childNodes), next = Array.from(fresh.content.childNodes);
  next.forEach((child, i) => {
    if (!now[i]) node.append(child);
    else if (!now[i].isEqualNode(child)) now[i].replaceWith(child);
  });
  now.slice(next.length).forEach(child => child.remove());
}

function editor(text, title, [leave, label], send, cancel) {
  const box = make('div', 'editor'), area = make('textarea'), bar = make('div', 'editor-bar');
  area.value = text; area.setAttribute('aria-label', title); area.rows = 1;
  const grow = () => {
    area.style.height = 'auto'; area.style.height = Math.min(area.scrollHeight + 2, 320) + 'px';
    box.scrollIntoView({ block: 'nearest' });
  };
  area.addEventListener('input', grow);
  area.addEventListener('keydown', event => {
    if (event.isComposing) return;
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(area.value); }
    if (event.key === 'Escape') { event.preventDefault(); cancel(); }
  });
  bar.append(action(leave, 'plain', cancel), action(label, 'strong', () => send(area.value)));
  box.append(make('p', 'editor-title', title), area, bar);
  requestAnimationFrame(() => { area.focus({ preventScroll: true }); grow(); });
  return box;
}

function row(turn) {
  const mine = turn.role === 'user';
  const node = make('article', 'turn ' + (mine ? 'user-row' : 'bot-row'));
  const message = make('div', 'message ' + (mine ? 'user' : 'bot')), tools = make('div', 'tools'), below = make('div', 'below');
  message.setAttribute('aria-label', mine ? W.you : W.model);
  node.append(message, tools, below);
  return { node, message, tools, below, role: turn.role };
}
function closeEditor(item) { item.node.querySelector(':scope > .editor')?.remove(); item.node.classList.remove('editing'); }
function edit(item, index, text) {
  closeEditor(item);
  item.node.classList.add('editing');
  item.node.append(editor(text, W.edit, [W.cancel, W.resend], value => {
    if (!value.trim()) return;
    closeEditor(item); trigger('revise', { index, text: value });
  }, () => closeEditor(item)));
}

async function rate(item, turn, rating, correction) {
  const turns = shown.turns.slice(0, shown.turns.findIndex(t => t.id === turn.id) + 1)
    .map(({ html, ...kept }) => kept);
  let result;
  try { result = await server.rate({ id: turn.id, tab, turns, rating, correction }); }
  catch { result = { error: W.unsaved }; }
  if (result && result.error) { say(item, result.error, true); return false; }
  if (rating === 0) ratings.delete(turn.id); else ratings.set(turn.id, { rating, correction });
  drawTools(item, turn);
  return true;
}
function say(item, text, wrong) {
  item.below.replaceChildren(make('p', wrong ? 'said wrong' : 'said', text));
  item.below.firstChild.setAttribute('role', wrong ? 'alert' : 'status');
  item.below.scrollIntoView({ block: 'nearest' });
}
async function thumb(item, turn, rating) {
  const known = ratings.get(turn.id);
  if (known && known.rating === rating) {
    if (await rate(item, turn, 0, null)) say(item, W.withdrawn);
    return;
  }
  if (!await rate(item, turn, rating, null)) return;
  if (rating > 0) { say(item, W.thanks); return; }
  const send = async value => {
    if (!value.trim()) { say(item, W.noted); return; }
    if (await rate(item, turn, -1, value)) say(item, W.saved);
    else item.below.append(correcting(value));
  };
  const correcting = text => editor(text, W.better, [W.skip, W.save], send, () => say(item, W.noted));
  item.below.replaceChildren(correcting(''));
}

function drawTools(item, turn) {
  const index = rows.indexOf(item), last = index === rows.length - 1, busy = shown.busy;
  const kept = ratings.get(turn.id)?.rating ?? 0;
  const state = [index, last, busy, kept, turn.content === W.empty].join();
  if (item.state === state) return;
  item.state = state;
  item.tools.replaceChildren();
  if (busy && last) return;
  const copying = tool('copy', W.copy, button => copy(shown.turns[rows.indexOf(item)].content, button));
  if (item.role === 'user') {
    if (!busy) item.tools.append(tool('edit', W.edit, () => edit(item, index, shown.turns[index].content)));
    item.tools.append(copying);
    return;
  }
  item.tools.append(copying);
  if (last && !busy) item.tools.append(tool('again', W.again, () => trigger('again', { index: index - 1 })));
  if (props.thumbs && turn.id && turn.content !== W.empty) {
    for (const [name, label, value] of [['up', W.up, 1], ['down', W.down, -1]]) {
      const button = tool(name, label, () => thumb(item, turn, value));
      button.setAttribute('aria-pressed', kept === value);
      button.classList.toggle('on', kept === value);
      item.tools.append(button);
    }
  }
  if (props.several && turn.model) item.tools.append(make('span', 'by', turn.model));
}

function welcome(hello) {
  const node = make('div', 'placeholder'), inner = make('div', 'welcome'), examples = make('div', 'examples');
  inner.append(make('h2', '', hello.title), make('p', '', hello.line));
  hello.examples.forEach(text => examples.append(action(text, 'example', () => trigger('ask', { text }))));
  node.append(inner, examples);
  return node;
}

function draw() {
  const value = props.value || { turns: [], hello: { examples: [] } }, turns = value.turns;
  const near = atEnd, before = rows.length;
  if (value.busy && !shown.busy) rows.forEach(closeEditor);
  shown = value;
  log.setAttribute('aria-busy', !!value.busy);
  if (!turns.length) { rows = []; log.replaceChildren(welcome(value.hello)); return; }
  log.querySelector('.placeholder')?.remove();
  turns.forEach((turn, i) => {
    let item = rows[i];
    if (!item || item.role !== turn.role) {
      rows.slice(i).forEach(old => old.node.remove());
      rows.length = i;
      item = rows[i] = row(turn);
      log.append(item.node);
    }
    if (item.id !== turn.id) { item.id = turn.id; item.state = null; item.below.replaceChildren(); }
    item.message.classList.toggle('markdown', turn.html !== undefined);
    if (turn.html === undefined) { if (item.message.textContent !== turn.content) item.message.textContent = turn.content; }
    else if (item.html !== turn.html) patch(item.message, turn.html);
    item.html = turn.html;
  });
  rows.slice(turns.length).forEach(old => old.node.remove());
  rows.length = turns.length;
  rows.forEach((item, i) => drawTools(item, turns[i]));
  if (value.draft && rows[value.draft.index]) edit(rows[value.draft.index], value.draft.index, value.draft.text);
  else if (near || rows.length > before) log.scrollTop = log.scrollHeight;
}

element.addEventListener('click', event => {
  const button = event.target.closest('.copy-code');
  if (button) copy(button.closest('.code').querySelector('code').textContent, button);
});
// A notice below makes the log smaller: whoever was reading its end goes on doing so.
log.addEventListener('scroll', () => { atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 90; });
new ResizeObserver(() => { if (atEnd) log.scrollTop = log.scrollHeight; }).observe(log);
watch('value', draw);
draw();
"""

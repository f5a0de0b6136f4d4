"""The look of the report page: one style sheet and a few lines of script, both inlined."""

FONT_STACK = (
    'Pretendard, "Apple SD Gothic Neo", "Noto Sans KR", "Noto Sans CJK KR", NanumGothic, "Nanum Gothic", '
    '"Malgun Gothic", system-ui, -apple-system, "Segoe UI", sans-serif'
)
MONO_STACK = 'ui-monospace, "D2Coding", "NanumGothicCoding", SFMono-Regular, Menlo, Consolas, monospace'

_LIGHT = """
  --paper: #fbfbf9; --card: #ffffff; --ink: #22262f; --soft: #636b78; --line: #e4e5e1;
  --accent: #3056d3; --accent-soft: #eef2fe; --code: #f4f4f0; --shadow: 0 1px 2px rgb(20 24 40 / 5%); --edge: rgb(20 24 40 / 22%);
"""
_DARK = """
  --paper: #14161b; --card: #1b1e25; --ink: #e4e6eb; --soft: #9aa2b1; --line: #2c313b;
  --accent: #8ea8ff; --accent-soft: #222a44; --code: #232730; --shadow: none; --edge: rgb(0 0 0 / 70%);
"""

STYLE = f"""
:root {{ color-scheme: light; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ color-scheme: dark; {_DARK} }} }}
:root[data-theme=dark] {{ color-scheme: dark; {_DARK} }}
* {{ box-sizing: border-box; }}
html {{ scroll-padding-top: 1.5rem; -webkit-text-size-adjust: 100%; }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.75 {FONT_STACK};
  word-break: keep-all; overflow-wrap: anywhere; }}
header {{ display: flex; align-items: start; justify-content: space-between; gap: 1rem;
  max-width: 76rem; margin: 0 auto; padding: 2.2rem 1.5rem 1.2rem; }}
header h1 {{ margin: 0; font-size: 1.55rem; letter-spacing: -.02em; line-height: 1.3; }}
header p {{ margin: .3rem 0 0; color: var(--soft); font-size: .92rem; }}
#theme {{ flex: none; width: 2.4rem; height: 2.4rem; border: 1px solid var(--line); border-radius: 50%;
  background: var(--card); color: var(--ink); font-size: 1.05rem; line-height: 1; cursor: pointer; }}
.layout {{ display: grid; grid-template-columns: 16rem minmax(0, 1fr); gap: 2.2rem;
  max-width: 76rem; margin: 0 auto; padding: 0 1.5rem 4rem; }}
nav {{ position: sticky; top: 1.5rem; align-self: start; max-height: calc(100vh - 3rem); overflow-y: auto;
  font-size: .9rem; line-height: 1.5; }}
nav summary {{ cursor: pointer; font-weight: 700; color: var(--soft); margin-bottom: .6rem; }}
nav ol {{ list-style: none; margin: 0; padding: 0; }}
nav li {{ margin: .35rem 0; }}
nav ol ol {{ margin: .2rem 0 .6rem .2rem; padding-left: .8rem; border-left: 2px solid var(--line); }}
nav a {{ color: var(--ink); text-decoration: none; }}
nav ol ol a {{ color: var(--soft); }}
nav a:hover, nav a.here {{ color: var(--accent); }}
article {{ background: var(--card); border: 1px solid var(--line); border-radius: 14px; box-shadow: var(--shadow);
  padding: 1.8rem 2.2rem 2rem; margin-bottom: 1.6rem; }}
article h1 {{ margin: 0 0 1rem; font-size: 1.4rem; line-height: 1.4; letter-spacing: -.015em; }}
article h2 {{ margin: 2.2rem 0 .7rem; font-size: 1.13rem; }}
article h3 {{ margin: 1.6rem 0 .5rem; font-size: 1rem; }}
p, ul, ol {{ margin: .7rem 0; }}
a {{ color: var(--accent); }}
blockquote {{ margin: 1rem 0; padding: .1rem 1rem; border-left: 3px solid var(--accent); color: var(--soft); }}
code {{ font: .88em {MONO_STACK}; background: var(--code); border-radius: 5px; padding: .12em .35em; }}
pre {{ background: var(--code); border-radius: 10px; padding: 1rem 1.1rem; overflow-x: auto; line-height: 1.6;
  white-space: pre-wrap; }}
pre code {{ background: none; padding: 0; }}
/* A table wider than the page scrolls in its box; a shadow stands at each edge behind which there is more (Verou 2012). */
.table {{ overflow-x: auto; margin: 1rem 0; scrollbar-width: thin;
  background: linear-gradient(90deg, var(--card) 30%, transparent) 0 0 / 2.5rem 100% no-repeat local,
    linear-gradient(270deg, var(--card) 30%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
    linear-gradient(90deg, var(--edge), transparent) 0 0 / .9rem 100% no-repeat scroll,
    linear-gradient(270deg, var(--edge), transparent) 100% 0 / .9rem 100% no-repeat scroll; }}
.table:focus-visible {{ outline: 2px solid var(--accent); }}
table {{ border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; min-width: 40%; }}
th, td {{ padding: .45rem .9rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }}
th {{ color: var(--soft); font-weight: 600; white-space: nowrap; border-bottom-width: 2px; }}
th:first-child, td:first-child {{ padding-left: .2rem; }}
td {{ overflow-wrap: break-word; }}
td.wordy {{ min-width: 12rem; }}
[style*="text-align:right"] {{ text-align: right; white-space: nowrap; }}
.caption {{ margin: 1.3rem 0 -.4rem; color: var(--soft); font-size: .88rem; }}
figure {{ margin: 1.3rem 0; }}
/* Plots are drawn on white paper; in the dark they keep it, as a card. */
img {{ display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 10px; padding: .6rem; }}
figcaption {{ margin-top: .45rem; color: var(--soft); font-size: .88rem; }}
@media (max-width: 820px) {{
  header {{ padding: 1.4rem 1rem .8rem; }}
  header h1 {{ font-size: 1.3rem; }}
  .layout {{ display: block; padding: 0 .8rem 3rem; }}
  nav {{ position: static; max-height: none; margin: 0 .2rem 1.2rem; }}
  article {{ padding: 1.2rem 1.1rem 1.4rem; border-radius: 12px; }}
  img {{ padding: .25rem; }}
}}
@media print {{ nav, #theme {{ display: none; }} .layout {{ display: block; }} article {{ border: 0; }} }}
"""

SCRIPT = """
(() => {
  const root = document.documentElement, key = 'workshop-theme';
  const store = { get: () => { try { return localStorage.getItem(key); } catch { return null; } },
                  set: (value) => { try { localStorage.setItem(key, value); } catch { /* file:// may forbid it */ } } };
  if (store.get()) root.dataset.theme = store.get();
  document.getElementById('theme').onclick = () => {
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = dark ? 'light' : 'dark';
    store.set(root.dataset.theme);
  };
  if (matchMedia('(max-width: 820px)').matches) document.querySelector('nav details').open = false;
  const links = new Map([...document.querySelectorAll('nav a')].map((a) => [a.hash.slice(1), a]));
  const nav = document.querySelector('nav');
  const targets = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let here = null, waiting = false;
  const top = (target) => target.getBoundingClientRect().top;
  const current = () => {  // the last heading that has reached the top; at the page's end the one asked for, or the last
    if (innerHeight + scrollY >= root.scrollHeight - 2) {
      const asked = targets.find((target) => '#' + target.id === location.hash);
      return asked && top(asked) >= 0 ? asked : targets.at(-1);
    }
    return targets.filter((target) => top(target) < 48).at(-1) ?? targets[0];
  };
  const mark = () => {  // the list is scrolled to the entry
    waiting = false;
    const link = links.get(current()?.id);
    if (!link || link === here) return;
    here?.classList.remove('here');
    here = link;
    here.classList.add('here');
    if (nav.scrollHeight > nav.clientHeight) {
      const place = top(here) - top(nav);
      if (place < 0 || place > nav.clientHeight - 60) nav.scrollTop += place - nav.clientHeight / 3;
    }
  };
  addEventListener('scroll', () => { if (!waiting) { waiting = true; requestAnimationFrame(mark); } }, { passive: true });
  addEventListener('load', mark);
})();
"""

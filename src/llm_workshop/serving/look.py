"""The look of the chat page: Gradio theme, style sheet and a few lines of script.  Nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_workshop.report.style import FONT_STACK, MONO_STACK

if TYPE_CHECKING:
    import gradio

_LIGHT = """
  --paper: #fbfbf9; --card: #ffffff; --ink: #22262f; --soft: #636b78; --line: #e4e5e1;
  --accent: #3056d3; --on-accent: #ffffff; --accent-soft: #eef2fe; --mine: #e9eefc; --warn: #9a4b00; --warn-soft: #fdf3e4;
"""
_DARK = """
  --paper: #14161b; --card: #1b1e25; --ink: #e4e6eb; --soft: #9aa2b1; --line: #2c313b;
  --accent: #8ea8ff; --on-accent: #10131c; --accent-soft: #222a44; --mine: #26304f; --warn: #f0b35e; --warn-soft: #33291a;
"""


def theme() -> gradio.themes.Base:
    """A plain Gradio theme on the workshop's colours; fonts are those of the reader's system."""
    import gradio as gr
    from gradio.themes.utils.fonts import Font

    fonts = [Font(name.strip().strip('"')) for name in FONT_STACK.split(",")]
    mono = [Font(name.strip().strip('"')) for name in MONO_STACK.split(",")]
    base = gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=mono)
    return base.set(
        body_background_fill="var(--paper)",
        body_background_fill_dark="var(--paper)",
        body_text_color="var(--ink)",
        body_text_color_dark="var(--ink)",
        body_text_color_subdued="var(--soft)",
        body_text_color_subdued_dark="var(--soft)",
        background_fill_primary="var(--card)",
        background_fill_primary_dark="var(--card)",
        background_fill_secondary="var(--paper)",
        background_fill_secondary_dark="var(--paper)",
        block_background_fill="var(--card)",
        block_background_fill_dark="var(--card)",
        block_border_color="var(--line)",
        block_border_color_dark="var(--line)",
        border_color_primary="var(--line)",
        border_color_primary_dark="var(--line)",
        border_color_accent="var(--accent)",
        border_color_accent_dark="var(--accent)",
        block_label_text_color="var(--soft)",
        block_info_text_color="var(--soft)",
        input_background_fill="var(--card)",
        input_background_fill_dark="var(--card)",
        input_border_color="var(--line)",
        input_border_color_dark="var(--line)",
        input_border_color_focus="var(--accent)",
        input_border_color_focus_dark="var(--accent)",
        color_accent="var(--accent)",
        color_accent_soft="var(--accent-soft)",
        color_accent_soft_dark="var(--accent-soft)",
        slider_color="var(--accent)",
        slider_color_dark="var(--accent)",
        button_primary_background_fill="var(--accent)",
        button_primary_background_fill_dark="var(--accent)",
        button_primary_background_fill_hover="var(--accent)",
        button_primary_background_fill_hover_dark="var(--accent)",
        button_primary_text_color="var(--on-accent)",
        button_primary_text_color_dark="var(--on-accent)",
        button_secondary_background_fill="var(--card)",
        button_secondary_background_fill_dark="var(--card)",
        button_secondary_border_color="var(--line)",
        button_secondary_border_color_dark="var(--line)",
        button_secondary_text_color="var(--ink)",
        button_secondary_text_color_dark="var(--ink)",
    )


CSS = f"""
:root {{ {_LIGHT} color-scheme: light; }}
.dark {{ {_DARK} color-scheme: dark; }}
body {{ background: var(--paper); }}
footer {{ display: none !important; }}
.gradio-container .main.app {{ padding: 0 1.5rem; max-width: 78rem; margin: 0 auto; }}
.gradio-container .prose, .gradio-container p {{ word-break: keep-all; overflow-wrap: anywhere; }}

/* Masthead */
#masthead {{ margin: .9rem 0 -.2rem; }}
#masthead .html-container, #model .html-container, #status .html-container {{ padding: 0; }}
.brand {{ display: flex; align-items: center; gap: .7rem; }}
.brand .mark {{ width: 2.1rem; height: 2.1rem; border-radius: 10px; background: var(--accent); color: var(--on-accent);
  display: grid; place-items: center; font-weight: 800; font-size: 1.05rem; }}
.brand h1 {{ font-size: 1.15rem !important; font-weight: 700; margin: 0 !important; letter-spacing: -.02em; color: var(--ink); }}
.brand > div {{ min-width: 0; }}
.brand p {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; margin: .05rem 0 0 !important; font-size: .82rem; color: var(--soft); line-height: 1.4; }}

/* Two columns that fill the window: the conversation, and the panel beside it */
#room {{ height: calc(100dvh - 5.1rem); min-height: 26rem; gap: 1.5rem; flex-wrap: nowrap; align-items: stretch; }}
#talk {{ height: 100%; min-height: 0; flex-wrap: nowrap; gap: .7rem; }}
#panel {{ flex: 0 0 19rem; height: 100%; min-height: 0; overflow-y: auto; flex-wrap: nowrap; gap: .9rem;
  padding: 0 .3rem 1.6rem .1rem; scrollbar-width: thin; mask-image: linear-gradient(#000 calc(100% - 1.6rem), transparent); }}

/* Switch between the two modes, and a new conversation */
#bar {{ flex: none; align-items: center; justify-content: space-between; flex-wrap: nowrap; gap: .6rem; }}
#mode {{ flex: 0 0 auto; min-width: 0; width: auto; border: 0; background: none; padding: 0; }}
#mode > .wrap:last-child {{ display: inline-flex; flex-wrap: nowrap; gap: 2px; padding: 3px; border-radius: 12px;
  background: color-mix(in srgb, var(--line) 60%, transparent); }}
#mode label {{ border: 0; background: none; box-shadow: none; padding: .34rem .95rem; border-radius: 9px; cursor: pointer;
  color: var(--soft); font-size: .92rem; }}
#mode label.selected {{ background: var(--card); color: var(--ink); font-weight: 700; box-shadow: 0 1px 2px rgb(20 24 40 / 12%); }}
#mode label input {{ position: absolute; opacity: 0; width: 0; margin: 0; }}
#mode label:has(input:focus-visible) {{ outline: 2px solid var(--accent); outline-offset: 1px; }}
#mode label span {{ margin: 0; }}
#clear {{ flex: 0 0 auto; min-width: 0; width: auto; padding: .42rem .95rem; border-radius: 11px; font-size: .9rem; font-weight: 500;
  border: 1px solid var(--line); background: var(--card); color: var(--ink); box-shadow: none; }}
#clear:hover {{ border-color: var(--accent); color: var(--accent); }}

/* Conversation */
#chat {{ flex: 1 1 0; min-height: 0; height: auto !important; border: 1px solid var(--line); border-radius: 18px;
  background: var(--card); overflow: hidden; padding: 0; }}
#chat > div:has(.log), #chat div:has(> .log) {{ height: 100%; padding: 0; margin: 0; }}
#chat .log {{ height: 100%; overflow-y: auto; overscroll-behavior: contain; padding: 1.2rem clamp(.9rem, 3vw, 2rem) .8rem; scrollbar-width: thin;
  display: flex; flex-direction: column; gap: .1rem; }}
#chat .log:focus-visible {{ outline: 2px solid color-mix(in srgb, var(--accent) 45%, transparent); outline-offset: -3px; border-radius: 18px; }}
#chat .turn {{ flex: none; display: flex; flex-direction: column; align-items: flex-start; max-width: 100%; min-width: 0; }}
#chat .user-row {{ align-items: flex-end; align-self: flex-end; max-width: min(86%, 34rem); margin-top: .5rem; }}
#chat .message {{ max-width: 100%; min-width: 0; font-size: 1rem; line-height: 1.75; color: var(--ink); white-space: pre-wrap;
  word-break: keep-all; overflow-wrap: anywhere; }}
#chat .message.user {{ background: var(--mine); border-radius: 18px 18px 5px 18px; padding: .55rem 1rem; }}
#chat .message.bot {{ width: 100%; padding: .3rem 0 .1rem; }}
#chat .log[aria-busy=true] .turn:last-child .message.bot {{ min-height: 2.2rem; }}

/* Buttons under a message */
#chat .tools {{ display: flex; align-items: center; gap: .1rem; min-height: 1.9rem; margin: 0 -.3rem .15rem; }}
#chat .tool {{ display: grid; place-items: center; width: 1.85rem; height: 1.85rem; border: 0; border-radius: 9px; background: none;
  color: var(--soft); cursor: pointer; opacity: .85; }}
#chat .tool:hover {{ background: var(--accent-soft); color: var(--accent); opacity: 1; }}
#chat .tool.on {{ color: var(--accent); opacity: 1; }}
#chat .tool[aria-pressed=true] {{ background: var(--accent-soft); }}
#chat button:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 1px; }}
#chat .by {{ margin-left: .5rem; font-size: .78rem; color: var(--soft); }}
#chat .user-row .tools {{ min-height: 1.6rem; opacity: 0; transition: opacity .15s; }}
#chat .user-row:hover .tools, #chat .user-row:focus-within .tools {{ opacity: 1; }}
@media (hover: none) {{ #chat .user-row .tools {{ opacity: 1; }} #chat .tool {{ width: 2.4rem; height: 2.4rem; }} }}
#chat .said {{ margin: 0 0 .5rem; font-size: .84rem; color: var(--soft); }}
#chat .said.wrong {{ color: var(--warn); }}
.offstage {{ position: fixed; left: -99rem; }}

/* Changing a message, writing a better answer */
#chat .below {{ width: 100%; }}
#chat .editor {{ width: 100%; max-width: 34rem; margin: .1rem 0 .7rem; padding: .5rem; border: 1px solid var(--line); border-radius: 14px; background: var(--paper); }}
#chat .editor:focus-within {{ border-color: var(--accent); box-shadow: 0 0 0 3px color-mix(in srgb, var(--accent) 16%, transparent); }}
#chat .editor textarea {{ display: block; width: 100%; min-height: 2.6rem; resize: vertical; border: 0; outline: 0; background: none; color: var(--ink);
  font: inherit; font-size: 1rem; line-height: 1.7; padding: .2rem .4rem; word-break: keep-all; }}
#chat .editor-title {{ margin: 0; padding: .1rem .4rem 0; font-size: .82rem; font-weight: 600; color: var(--soft); }}
#chat .editor-bar {{ display: flex; justify-content: flex-end; gap: .4rem; padding-top: .3rem; }}
#chat .editor-bar button {{ border: 0; border-radius: 10px; padding: .4rem .9rem; font-size: .88rem; font-weight: 600; cursor: pointer; }}
#chat .editor-bar .plain {{ background: none; color: var(--soft); }}
#chat .editor-bar .strong {{ background: var(--accent); color: var(--on-accent); }}
#chat .user-row.editing {{ width: 100%; }}
#chat .editing > .message, #chat .editing > .tools {{ display: none; }}

/* Markdown of answers */
#chat .markdown {{ white-space: normal; }}
#chat .markdown > :first-child {{ margin-top: 0; }}
#chat .markdown > :last-child {{ margin-bottom: 0; }}
#chat .markdown :where(p, ul, ol, blockquote, .code, .table) {{ margin: .65rem 0; }}
#chat .markdown :is(h1, h2, h3, h4, h5, h6) {{ margin: 1.1rem 0 .4rem; font-size: 1.05rem; font-weight: 700; line-height: 1.5; color: var(--ink); }}
#chat .markdown h1 {{ font-size: 1.25rem; }} #chat .markdown h2 {{ font-size: 1.14rem; }}
#chat .markdown ul {{ list-style: disc; padding-left: 1.4rem; }} #chat .markdown ol {{ list-style: decimal; padding-left: 1.6rem; }}
#chat .markdown li > p {{ margin: .2rem 0; }} #chat .markdown li > :is(ul, ol) {{ margin: .1rem 0; }}
#chat .markdown strong {{ font-weight: 700; }} #chat .markdown em {{ font-style: italic; }}
#chat .markdown a {{ color: var(--accent); text-decoration: underline; text-underline-offset: 3px; }}
#chat .markdown blockquote {{ border-left: 3px solid var(--line); padding-left: .9rem; color: var(--soft); }}
#chat .markdown hr {{ border: 0; border-top: 1px solid var(--line); margin: 1rem 0; }}
#chat .markdown code {{ font-family: {MONO_STACK}; font-size: .88em; background: var(--accent-soft); border-radius: 6px; padding: .12em .35em; }}
#chat .code {{ border: 1px solid var(--line); border-radius: 12px; overflow: hidden; background: var(--paper); }}
#chat .code-head {{ display: flex; justify-content: space-between; align-items: center; padding: .2rem .4rem .2rem .9rem; font-size: .78rem; color: var(--soft);
  border-bottom: 1px solid var(--line); }}
#chat .copy-code {{ border: 0; background: none; border-radius: 8px; padding: .25rem .6rem; font-size: .78rem; color: var(--soft); cursor: pointer; }}
#chat .copy-code:hover, #chat .copy-code.on {{ color: var(--accent); background: var(--accent-soft); }}
#chat .code pre {{ margin: 0; padding: .75rem .9rem; overflow-x: auto; background: none; white-space: pre; line-height: 1.6; scrollbar-width: thin; }}
#chat .code pre code {{ background: none; padding: 0; font-size: .86rem; word-break: normal; overflow-wrap: normal; color: var(--ink); }}
#chat .table {{ overflow-x: auto; }}
#chat .markdown table {{ border-collapse: collapse; font-size: .94rem; }}
#chat .markdown :is(th, td) {{ border: 1px solid var(--line); padding: .35rem .75rem; text-align: left; }}
#chat .markdown th {{ background: var(--paper); font-weight: 600; }}

/* Welcome */
#chat .placeholder {{ display: flex; flex-direction: column; justify-content: safe center; flex: 1; padding: 1rem 0; text-align: center; }}
#chat .welcome h2 {{ font-size: 1.45rem; font-weight: 700; letter-spacing: -.02em; margin: 0 0 .4rem; color: var(--ink); }}
#chat .welcome p {{ color: var(--soft); font-size: .95rem; line-height: 1.7; max-width: 30rem; margin: 0 auto; text-wrap: balance; word-break: keep-all; }}
#chat .examples {{ display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; max-width: 36rem; width: 100%; margin: 1.2rem auto 0; }}
#chat .example {{ min-width: 0; padding: .7rem 1rem; border-radius: 13px; border: 1px solid var(--line); cursor: pointer;
  background: var(--paper); color: var(--ink); text-align: left; font-size: .93rem; line-height: 1.6; word-break: keep-all; }}
#chat .example:hover {{ border-color: var(--accent); background: var(--accent-soft); }}

/* Input */
#box {{ flex: none; border: 1px solid var(--line); border-radius: 16px; background: var(--card); padding: .35rem .45rem .35rem .5rem;
  overflow: visible; box-shadow: 0 2px 10px rgb(20 24 40 / 4%); }}
#box:focus-within {{ border-color: var(--accent); box-shadow: 0 0 0 3px color-mix(in srgb, var(--accent) 16%, transparent); }}
#box textarea {{ border: 0; background: none; box-shadow: none; font-size: 1rem; line-height: 1.6; padding: .35rem .5rem; color: var(--ink); }}
#box .input-container {{ align-items: end; gap: .4rem; border: 0; background: none; box-shadow: none; }}
#box .submit-button, #box .stop-button {{ position: static; margin: 0; height: 2.3rem; min-width: 4.4rem; padding: 0 .95rem; border-radius: 11px;
  font-size: .92rem; font-weight: 600; border: 0; }}
#box .submit-button {{ background: var(--accent); color: var(--on-accent); }}
#box .stop-button {{ background: var(--ink); color: var(--paper); }}

/* What was measured */
#status {{ flex: none; min-height: 1.6rem; margin: -.25rem 0 .7rem; padding: 0 .4rem; }}
#status p {{ margin: 0; font-size: .84rem; line-height: 1.6; color: var(--soft); font-variant-numeric: tabular-nums; }}
#status b {{ color: var(--ink); font-weight: 600; }}
#status .notice {{ color: var(--warn); background: var(--warn-soft); border-radius: 10px; padding: .4rem .8rem; }}
#status .busy i {{ display: inline-block; width: .45rem; height: .45rem; margin-left: .45rem; border-radius: 50%;
  background: var(--accent); animation: breathe 1.1s ease-in-out infinite; }}
@keyframes breathe {{ 50% {{ opacity: .2; }} }}
@media (prefers-reduced-motion: reduce) {{ #status .busy i {{ animation: none; }} }}

/* Panel */
#model, #sampling {{ flex: none; border: 1px solid var(--line); border-radius: 16px; background: var(--card); }}
.card {{ padding: .95rem 1.1rem; }}
.card h2 {{ font-size: .95rem !important; font-weight: 700; margin: 0 0 .55rem !important; color: var(--ink); }}
.card dl {{ display: grid; grid-template-columns: auto 1fr; gap: .28rem .9rem; margin: 0; font-size: .84rem; line-height: 1.5; }}
.card dt {{ color: var(--soft); white-space: nowrap; }}
.card dd {{ margin: 0; text-align: right; color: var(--ink); overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }}
#sampling {{ padding: .8rem 1.1rem 1rem; }}
#sampling .label-wrap {{ font-weight: 700; font-size: .95rem; color: var(--ink); }}
#sampling .form, #sampling .block {{ border: 0; background: none; box-shadow: none; border-radius: 0; overflow: visible; }}
#sampling .form {{ gap: .7rem; padding-top: .4rem; }}
#sampling .block {{ padding: 0; min-width: 0; }}
#sampling label > span, #sampling .head label span {{ font-size: .88rem; color: var(--ink); margin: 0; }}
#sampling .info-text, #sampling .info {{ font-size: .78rem; line-height: 1.5; color: var(--soft); margin: .1rem 0 0; }}
/* The number stands beside the name, so that the line under them has the panel's whole width. */
#sampling .head {{ display: block; position: relative; margin-bottom: .25rem; }}
#sampling .tab-like-container {{ border-radius: 9px; border-color: var(--line); position: absolute; top: 0; right: 0; }}
#sampling .head .info-text, #sampling .head .info {{ margin-top: .35rem; }}
#sampling .tab-like-container input {{ width: 3.4rem; font-size: .84rem; text-align: right; background: none; }}
#sampling .slider_input_container {{ padding: .15rem 0 .35rem; }}
.dark #sampling {{ --neutral-200: var(--line); }}
#sampling input[type=range]::-webkit-slider-thumb {{ border: 1px solid var(--line); }}
#sampling .min_value, #sampling .max_value {{ display: none; }}
#panel > .form {{ flex: none; border: 0; background: none; box-shadow: none; border-radius: 0; overflow: visible; }}
#panel #models {{ border: 1px solid var(--line) !important; border-radius: 16px !important; background: var(--card); padding: .8rem 1.1rem .95rem; }}
#models span[data-testid=block-info] {{ margin: 0 0 .45rem; font-size: .95rem; font-weight: 700; color: var(--ink); }}
#models .wrap:has(> .wrap-inner) {{ border: 1px solid var(--line); border-radius: 9px; background: none; box-shadow: none; }}
#models .wrap-inner {{ padding: .1rem .35rem .1rem .2rem; }} #models input {{ font-size: .9rem; color: var(--ink); cursor: pointer; }}
#models .wrap:focus-within {{ border-color: var(--accent); }}
#more {{ border: 0; border-top: 1px solid var(--line); border-radius: 0; background: none; padding: .7rem 0 0; margin-top: .9rem; }}
#more .label-wrap {{ font-weight: 500; font-size: .88rem; color: var(--soft); }}
#seed input, #seed textarea, #stops textarea {{ border: 1px solid var(--line); border-radius: 9px; font-size: .88rem; padding: .4rem .7rem; margin-top: .35rem; background: none; }}

@media (max-width: 820px) {{
  .gradio-container .main.app {{ padding: 0 .75rem; }}
  #masthead {{ margin-top: .6rem; }}
  #room {{ display: block; height: auto; min-height: 0; }}
  #talk {{ height: calc(100dvh - 5.4rem); min-width: 0 !important; }}
  #panel {{ height: auto; overflow: visible; mask-image: none; padding: .4rem 0 2rem; width: 100%; }}
  #chat {{ border-radius: 15px; }}
  #chat .examples {{ grid-template-columns: 1fr; margin-top: .9rem; gap: .45rem; }}
  #chat .example {{ padding: .55rem .9rem; }}
  #chat .welcome h2 {{ font-size: 1.2rem; }}
  #chat .user-row:not(.editing) {{ max-width: 90%; }}
  #clear, #mode label {{ font-size: .88rem; }}
  /* 16 px or more: iOS zooms into smaller input fields. */
  #box textarea, #seed input, #stops textarea, #chat .editor textarea {{ font-size: 16px !important; }}
}}
"""

# Defence in depth: even HTML that slipped through could load nothing from another machine, nor look its name up.
HEAD = """
<meta http-equiv="Content-Security-Policy" content="img-src 'self' data: blob:; media-src 'none'; object-src 'none'; frame-src 'none'; connect-src 'self'; font-src 'self' data:">
<meta http-equiv="x-dns-prefetch-control" content="off">
<meta name="theme-color" content="#fbfbf9" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#14161b" media="(prefers-color-scheme: dark)">
"""

# Focus waits for people with a keyboard: on a phone it would only open the one on the screen.
ON_LOAD = """
() => {
  document.documentElement.lang = 'ko';
  if (matchMedia('(hover: hover)').matches) document.querySelector('#box textarea')?.focus();
}
"""

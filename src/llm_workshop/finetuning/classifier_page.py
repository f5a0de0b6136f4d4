"""A page on this machine that classifies what one types, and shows which words weigh."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Gradio resolves the annotations of event handlers, so its name must be known to this module.
import gradio as gr
import torch

from llm_workshop.serving import look
from llm_workshop.serving.serve import check_address, launch, wait_for_signal

TITLE = "내가 만든 분류기"
LONGEST = 2000
"""Characters that are taken; beyond them the page asks for less."""
WORDS = 60
"""Words of which the weight is measured: each costs a pass through the model."""
CSS = look.CSS + """
#weights .word { display: inline-block; padding: .12rem .3rem; margin: .12rem .1rem; border-radius: 6px; }
#weights p { color: var(--soft); font-size: .88rem; margin: .5rem 0 0 !important; }
.note { color: var(--soft); }
"""

Classify = Callable[[list[str]], torch.Tensor]
"""Texts -> probabilities (n, n_classes)."""


@dataclass(frozen=True)
class Weighed:
    """A word, and by how much the probability of the answer falls without it."""

    word: str
    weight: float


class ClassifierPage:
    """What the page's events do."""

    def __init__(self, classify: Classify, class_names: Sequence[str], title: str, examples: Sequence[str] = ()):
        self.classify, self.class_names, self.title, self.examples = classify, tuple(class_names), title, tuple(examples)

    def answer(self, text: str) -> tuple[dict[str, float] | None, str]:
        """Probabilities by class and the words with their weights as HTML; None and a hint for what cannot be read."""
        text = (text or "").strip()
        if not text:
            return None, '<p class="note">글을 적고 단추를 누르세요.</p>'
        if len(text) > LONGEST:
            return None, f'<p class="note">글이 {len(text):,}자입니다. {LONGEST:,}자까지 읽습니다.</p>'
        [probabilities] = self.classify([text]).tolist()
        return dict(zip(self.class_names, probabilities)), self.marked(text, self.weigh(text))

    def weigh(self, text: str) -> list[Weighed]:
        """Leave out one word after the other: what the answer loses is what the word was worth to it (Li et al. 2016)."""
        words = text.split()[:WORDS]
        if len(words) < 2:
            return []
        without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        whole, *others = self.classify([" ".join(words), *without])
        best = int(whole.argmax())
        return [Weighed(word, float(whole[best] - other[best])) for word, other in zip(words, others)]

    def marked(self, text: str, weighed: Sequence[Weighed]) -> str:
        """The words, the more important the stronger their ground; blue speaks for the answer, orange against it."""
        if not weighed:
            return '<p class="note">낱말이 둘 이상이면 낱말마다의 무게를 보여 줍니다.</p>'
        top = max(0.02, *(abs(w.weight) for w in weighed))
        spans = []
        for w in weighed:
            color = "48 86 211" if w.weight > 0 else "217 98 43"
            strength = min(1.0, abs(w.weight) / top) * 0.55
            spans.append(f'<span class="word" style="background: rgb({color} / {strength:.2f})" title="{w.weight:+.3f}">{html.escape(w.word)}</span>')
        cut = f" 처음 {WORDS}낱말만 재었습니다." if len(text.split()) > WORDS else ""
        return f'{"".join(spans)}<p>파란 낱말은 빼면 확률이 떨어지고, 주황 낱말은 빼면 올라갑니다.{cut}</p>'


def build(logic: ClassifierPage) -> gr.Blocks:
    """The page as Gradio Blocks."""
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(f"<h1>{TITLE}</h1><p>{html.escape(logic.title)}: {html.escape(', '.join(logic.class_names))}</p>", padding=False)
        with gr.Row():
            with gr.Column(scale=3, min_width=300):
                box = gr.Textbox(label="글", lines=5, max_lines=12, elem_id="text", placeholder="가려낼 글을 적어 보세요.")
                button = gr.Button("가려내기", variant="primary", elem_id="classify")
                if logic.examples:
                    gr.Examples([[example] for example in logic.examples], box, label="보기 (배울 때 보지 않은 글)")
            with gr.Column(scale=2, min_width=280):
                label = gr.Label(label="답", num_top_classes=min(6, len(logic.class_names)), elem_id="answer")
                weights = gr.HTML("", elem_id="weights", label="낱말의 무게")
        for event in (button.click, box.submit):
            event(logic.answer, box, [label, weights], api_name=False)
    return page


def serve_classifier(logic: ClassifierPage, host: str, port: int) -> None:
    """Open the page and stay until Ctrl-C or SIGTERM."""
    check_address(host, port)
    page = build(logic)
    print(f"classifier page: {launch(page, host, port, CSS)}  (Ctrl-C closes it)", flush=True)
    try:
        wait_for_signal()
    finally:
        page.close(verbose=False)
    print("\nclassifier page closed", flush=True)

"""Run by tests as a program: rate answers one after another and print each id once it is stored."""

import sys

from llm_workshop.serving.feedback.store import Feedback, FeedbackStore

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = FeedbackStore(path)
for number in range(count):
    messages = [{"role": "user", "content": f"질문 {number} " + "가" * 2000}]
    store.rate(Feedback(f"{name}-{number}", "m", messages, "답" * 2000, 1 if number % 2 else -1))
    store.rate(Feedback("shared", "m", messages, name, 1))
    print(f"{name}-{number}", flush=True)

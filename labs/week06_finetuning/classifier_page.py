# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6주차. 내가 만든 분류기 써 보기
#
# `make week6-finetune`이 남긴 분류기를 브라우저에서 써 봅니다. 글을 적으면 부류마다의 확률과, **어느 낱말 때문에 그렇게 답했는지**를
# 보여 줍니다. 시험 점수가 높은 모델도 엉뚱한 낱말을 보고 맞혔을 수 있습니다. 직접 괴롭혀 보아야 압니다.
#
# 터미널에서는 `make week6-classifier-page`입니다. 분류기가 아직 없으면 지금 만듭니다.

# %%
from llm_workshop.artifacts import Artifacts
from llm_workshop.finetuning.classifier_page import ClassifierPage, serve_classifier
from llm_workshop.finetuning.stage import (
    build_classifier,
    class_probabilities,
    open_classifier,
    replaced_task,
    task_of,
)
from llm_workshop.progress import print_korean
from llm_workshop.report import Report
from llm_workshop.report.plots import COLORS, new_figure
from llm_workshop.serving.serve import check_address
from llm_workshop.settings import settings_from_command_line

settings = settings_from_command_line(uses=("finetune", "chat.host", "chat.port"))
if settings.chat.serve:
    check_address(settings.chat.host, settings.chat.port)  # 포트가 막혀 있으면 지금 알려 줍니다.
artifacts = Artifacts(settings)
report = Report(artifacts, "week06-classifier-page", "6주차: 분류기가 보는 낱말")

# %% [markdown]
# ## 1. 분류기 열기
#
# 몸통(`model.safetensors`), 머리(`head.safetensors`), 부류의 이름과 온도(`classifier.json`), 토크나이저가 한 폴더에 있습니다.
# 네 가지가 **함께** 움직여야 합니다. 토크나이저만 바뀌어도 답은 헛소리가 됩니다.

# %%
report.section("1. 분류기 열기")
task = task_of(settings)
if earlier := replaced_task(artifacts, task):
    print(f"주의: {artifacts.path('classifier')}에 있는 '{earlier}' 과제의 분류기는 '{task.name}' 과제의 것으로 바뀝니다. "
          f'그 분류기를 보려면 ARGS="finetune.task={earlier}"')
build_classifier(artifacts, task, force=False, log=print_korean)
saved, tokenizer = open_classifier(artifacts)
names = saved.class_names
print(f"{task.title}: {', '.join(names)} (온도 {saved.temperature:.2f})")


def classify(texts):
    """글마다의 확률."""
    return class_probabilities(saved, tokenizer, texts)


# %% [markdown]
# ## 2. 낱말의 무게
#
# 낱말을 하나씩 빼고 다시 물어봅니다. 확률이 뚝 떨어지면 그 낱말이 답을 떠받치고 있었던 것입니다. 모델의 속을 몰라도 되는 방법이고,
# 낱말 하나마다 한 번씩 더 셈해야 하는 것이 값입니다.

# %%
report.section("2. 낱말의 무게")
examples = [text for text in task.test.texts if 4 <= len(text.split()) <= 20][:6] or list(task.test.texts[:6])
page = ClassifierPage(classify, names, task.title, examples)
text = examples[0]
probabilities, _ = page.answer(text)
answer = max(probabilities, key=probabilities.get)
weighed = page.weigh(text)
print(text)
print("  " + "  ".join(f"{name} {value:.0%}" for name, value in probabilities.items()))
for one in sorted(weighed, key=lambda w: -abs(w.weight))[:5]:
    print(f"  {one.weight:+.3f}  {one.word}")

# %%
figure, axes = new_figure(1, 1, width=7.0, height=0.3 * len(weighed) + 1.1)
axes.barh(range(len(weighed)), [w.weight for w in weighed], color=[COLORS[0] if w.weight > 0 else COLORS[1] for w in weighed])
axes.set_yticks(range(len(weighed)), [w.word for w in weighed])
axes.invert_yaxis()
axes.grid(axis="y", visible=False)
axes.set_xlabel(f"빼면 '{answer}'의 확률이 줄어드는 만큼")
axes.set_title("낱말의 무게")
report.text(text).figure(figure, "words", "낱말을 하나씩 뺐을 때 답의 확률이 줄어드는 만큼")

# %% [markdown]
# ## 3. 괴롭혀 보기
#
# 뜻을 뒤집는 말(`안`, `못`, `지만`), 맞춤법이 틀린 말, 이모티콘, 전혀 다른 이야기를 넣어 보세요. 배운 자료와 다른 글에는
# 높은 확신이 아무 뜻도 없습니다. 아래에서 같은 글을 조금씩 바꾸어 확률이 어떻게 달라지는지 봅니다.

# %%
report.section("3. 괴롭혀 보기")
changes = {"그대로": text, "앞의 반만": text[: len(text) // 2], "낱말을 거꾸로": " ".join(text.split()[::-1]), "빈칸 없이": text.replace(" ", ""),
           "상관없는 글": "내일은 전국에 비가 오겠습니다."}  # fmt: skip
rows = [{"바꾼 것": name, **dict(zip(names, row))} for name, row in zip(changes, classify(list(changes.values())).tolist())]
for row in rows:
    print(f"  {row['바꾼 것']}:  " + "  ".join(f"{name} {row[name]:.0%}" for name in names))
report.table(rows)
report.save()

# %% [markdown]
# ## 4. 화면
#
# 주소를 브라우저로 여세요. 이 컴퓨터에서만 열립니다. 터미널에서 Ctrl-C를 누르면 닫힙니다.

# %%
report.section("4. 화면")
if settings.chat.serve:
    serve_classifier(page, settings.chat.host, settings.chat.port)
else:
    print(f"화면은 띄우지 않았습니다 (chat.serve=false). 띄우려면: make week6-classifier-page SCALE={settings.scale}")

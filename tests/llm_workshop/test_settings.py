"""The three dials, overrides, derived values, and what is said about wrong ones."""

import pytest

from llm_workshop.settings import (
    SCALES,
    Settings,
    describe,
    load_settings,
    parse_override,
    read_preset,
    settings_digest,
    settings_from_command_line,
    settings_help,
)


@pytest.mark.parametrize("scale", SCALES)
def test_every_preset_loads_and_leaves_nothing_open_that_training_needs(scale):
    settings = load_settings(scale)
    p, m = settings.pretrain, settings.model
    assert m.d_model % m.n_heads == 0 and m.n_heads % m.n_kv_heads == 0
    assert p.batch_size % p.micro_batch_size == 0
    assert p.warmup_steps < p.steps
    assert None not in (m.d_ff, p.steps, p.min_learning_rate, p.eval_every, p.save_every)
    assert p.steps == round(p.tokens / (p.batch_size * m.context_length))


def test_derived_values_are_printed_with_their_reason_and_changes_are_marked():
    lines = describe(load_settings("smoke", overrides=["pretrain.batch_size=8", "model.n_kv_heads=4"]))
    assert lines[0] == "SCALE=smoke  DATA=sample  SEED=0"
    assert "  pretrain.batch_size=8  (set by you)" in lines
    assert any(line.startswith("  pretrain.steps=") and "tokens /" in line for line in lines)
    assert not any("GQA" in line for line in lines), "a value given by hand is not derived"


def test_gpt2_derives_its_own_shape():
    settings = load_settings("laptop", overrides=["model.architecture=gpt2"])
    assert settings.model.n_kv_heads == settings.model.n_heads
    assert settings.model.d_ff == 4 * settings.model.d_model


@pytest.mark.parametrize(
    ("text", "value"),
    [("3e-4", 3e-4), ("50", 50), ("1_000", 1000), ("null", None), ("true", True), (".5", 0.5), ("off", "off")],
)
def test_override_values_have_their_natural_types(text, value):
    assert parse_override(f"pretrain.compile={text}") == ("pretrain", "compile", value)
    assert type(parse_override(f"pretrain.compile={text}")[2]) is type(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "labtop"}, "did you mean 'laptop'"),
        ({"overrides": ["pretrain.learning_rte=1"]}, "did you mean 'learning_rate'"),
        ({"overrides": ["pretran.steps=1"]}, "did you mean 'pretrain'"),
        ({"overrides": ["steps=1"]}, "section.key=value"),
        ({"overrides": ["pretrain.steps=-1"]}, "-1 for pretrain.steps"),
        ({"overrides": ["pretrain.steps=many"]}, "'many' for pretrain.steps"),
        ({"overrides": ["tokenizer.vocab_size=100"]}, "100 for tokenizer.vocab_size"),
        ({"overrides": ["corpus.noise=2"]}, "2 for corpus.noise"),
        ({"data": ""}, "DATA is empty"),
        ({"seed": -1}, "-1 for seed"),
    ],
)
def test_wrong_settings_name_the_value_and_the_cure(arguments, message):
    with pytest.raises(ValueError) as caught:
        load_settings(**{"scale": "smoke", **arguments})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_run_name_tells_scale_and_data():
    assert load_settings("smoke").run_name == "smoke"
    assert load_settings("smoke", "sample,nsmc").run_name == "smoke-sample+nsmc"
    assert load_settings("smoke", "/some where/나의 글.txt").run_name == "smoke-나의_글.txt"


def test_digest_depends_on_values_only():
    a, b = load_settings("smoke"), load_settings("smoke", overrides=["pretrain.batch_size=16"])
    assert settings_digest(a.pretrain.model_dump()) == settings_digest(b.pretrain.model_dump())
    assert settings_digest(a) != settings_digest(load_settings("smoke", seed=1))


def test_command_line_and_environment(monkeypatch, capsys):
    settings = settings_from_command_line(["--scale", "smoke", "--seed", "3", "pretrain.steps=7"])
    assert (settings.scale, settings.seed, settings.pretrain.steps) == ("smoke", 3, 7)
    assert "pretrain.steps=7  (set by you)" in capsys.readouterr().out
    monkeypatch.setenv("SCALE", "gpu")
    assert settings_from_command_line([], quiet=True).scale == "gpu"


def test_only_the_settings_that_a_lab_uses_are_printed(capsys):
    argv = ["--scale", "smoke", "pretrain.batch_size=4", "pretrain.beta1=0.8", "generate.top_k=3"]
    settings_from_command_line(argv, uses=("model", "pretrain.batch_size"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("=")[0].strip() for line in lines[1:]] == ["pretrain.batch_size", "model.n_kv_heads", "model.d_ff"]
    settings_from_command_line(argv, uses=())
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("name", ["modle", "model.d_modle"])
def test_what_a_lab_uses_must_exist(name):
    with pytest.raises(ValueError, match=rf"'{name}' is no section or setting \(did you mean '{name.replace('modle', 'model')}'\?\): use e.g. 'model'"):
        settings_from_command_line(["--scale", "smoke"], uses=(name,))


def test_help_explains_every_setting():
    text = settings_help()
    for section, values in read_preset("laptop").items():
        for key in values:
            assert f"{section}.{key}" in text
    assert all(line.split(None, 1)[1].strip() for line in text.splitlines())


def test_settings_cannot_be_changed_after_loading():
    with pytest.raises(Exception, match="frozen"):
        load_settings("smoke").pretrain.steps = 1
    assert isinstance(load_settings("smoke"), Settings)


def test_heads_that_do_not_divide_the_width_are_refused_at_once():
    with pytest.raises(ValueError, match=r"model.d_model 128 is not divisible by model.n_heads 3: choose heads"):
        load_settings("smoke", overrides=["model.n_heads=3"])


def test_an_odd_number_of_heads_is_not_said_to_be_paired():
    settings = load_settings("smoke", overrides=["model.n_heads=1"])
    assert settings.model.n_kv_heads == 1 and any("cannot be paired" in note for note in settings.notes)


def test_an_unknown_name_of_data_is_told_before_the_first_section():
    with pytest.raises(ValueError, match=r"unknown DATA 'nsmcc' \(did you mean 'nsmc'\?\)"):
        settings_from_command_line(["--scale", "smoke", "--data", "sample,nsmcc"], quiet=True)
    assert settings_from_command_line(["--data", "nsmc,my/texts"], quiet=True).data == ("nsmc", "my/texts")

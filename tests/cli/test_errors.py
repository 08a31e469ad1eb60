"""What a user does wrong: one message that says what and where, status 2, nothing written."""

import numpy as np
import pytest

CSV = ["series,time,step,noise,target"]
CSV += [
    f"w{n},{t},{(-1) ** n * 0.5},{t * 0.1},{('down', 'up')[n % 2]}"
    for n in range(12)
    for t in range(3)
]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def refused(longlag, folder):
    """Runs a command that must fail and leave the folder as it was; its message."""

    def run(*words):
        before = contents(folder)
        done = longlag(*words)
        assert done.status == 2
        assert contents(folder) == before
        assert done.err.startswith("longlag: ")
        assert done.err.count("\n") == 1
        assert "Traceback" not in done.err
        assert done.out == ""
        return done.err

    return run


@pytest.fixture
def csv_with(folder):
    """A good .csv but for one row, counted as an editor does."""

    def write(row=None, text="", name="my.csv"):
        lines = list(CSV)
        if row is not None:
            lines[row - 1] = text
        (folder / name).write_text("\n".join(lines) + "\n")
        return name

    return write


TASK = ("--task", "classification")


@pytest.mark.parametrize(
    ("row", "text", "said"),
    [
        (5, "w1,0,nan,0.1,up", ["row 5", "'step'", "NaN", "drop the row"]),
        (5, "w1,0,,0.1,up", ["row 5", "'step'", "an empty cell"]),
        (5, "w1,0,high,0.1,up", ["row 5", "'step'", "'high'", "--columns.features"]),
        (5, "w1,0,0.5,up", ["row 5", "4 cells", "expected 5"]),
        (5, "w1,1,0.5,0.1,up", ["row 6", "'time'", "already in row 5"]),
        (5, "w1,0,0.5,0.1,down", ["row 5", "'target'", "'down' here", "'up' in its last row"]),
        (5, "w1,soon,0.5,0.1,up", ["row 5", "'time'", "'soon'", "--columns.time null"]),
        (1, "series,time,step,noise,targte", ["row 1", "'targte'?", "--columns.target"]),
        (1, "series;time;step;noise;target", ["row 1", "separated by ';'"]),
    ],
)  # fmt: skip
def test_a_bad_cell_is_named_by_file_row_and_column(refused, csv_with, row, text, said):
    message = refused("train", csv_with(row, text), *TASK)
    for part in ["my.csv", *said]:
        assert part in message
    assert "Columns(" not in message  # that would be Python


IMPOSSIBLE = """
                                     => DATA is missing
my.csv                               => --task is missing | regression, tagging, forecasting
my.csv --task clasification          => --task: got 'clasification' | did you mean classification?
ym.csv TASK                          => ym.csv: there is no such file | 'my.csv'?
my.txt TASK                          => my.txt | '.txt' | '.csv'
my.csv TASK --hiden 3                => no option --hiden | did you mean --hidden?
my.csv other.csv TASK                => 'other.csv' is one word too many
my.csv TASK --hidden 0               => --hidden: got 0 | 1 or more
my.csv TASK --hidden 2.5             => --hidden: got '2.5' | a whole number
my.csv TASK --hidden                 => --hidden | expected one argument
my.csv TASK --learning_rate nan      => --learning_rate | more than 0
my.csv TASK --validation 1.0         => --validation: got 1.0 | between 0 and 1
my.csv TASK --validation 0.9         => my.csv: --validation | smaller --validation
my.csv TASK --seed -1                => --seed: got -1 | 0 or more
my.csv TASK --cell gur               => --cell: got 'gur' | did you mean gru?
my.csv TASK --cell elman --chrono 9  => --chrono: elman | --cell gru or lstm
my.csv TASK --cell clockwork --hidden 30 => --hidden: got 30 | multiple of 4 | --hidden 32
my.csv TASK --dropout 0.1            => --dropout: got 0.1 | --layers 2
my.csv TASK --dilated                => --dilated: the first layer | --layers 4
my.csv TASK --dilated --layers 40    => --layers: got 40 | --layers 14
my.csv TASK --cell lstm --orthogonal => --orthogonal: lstm has | --cell elman
my.csv TASK --cell echo --orthogonal => --orthogonal | is not trained
my.csv TASK --horizon 3              => --horizon: got 3 | classification has none
my.csv TASK --window 3               => --window: got 3 | classification has none
my.csv --task forecasting --bidirectional       => --bidirectional | would see the future
my.csv --task forecasting --columns.features step --horizon 2 => my.csv: the training part
my.csv --task forecasting --backtest 9 => series 'w0' has 3 steps, and 9 origins | --backtest or
my.csv --task forecasting --columns.target nois => my.csv, row 1 | no column 'nois' | 'noise'?
my.csv TASK --cell indrnn --recurrent_dropout 0.1 => --recurrent_dropout | --input_dropout
one.csv TASK                         => at least 2 series | got 1 ('w0') | --columns.series
same.csv TASK                        => the single class 'up' | --columns.target
alone.csv TASK                       => only 0 can go | --validation_data FILE, or --task regression
. TASK                               => .: the suffix
folder.csv TASK                      => folder.csv: it is a folder; expected a file, '.csv'
my.csv TASK --columns.series serie   => my.csv, row 1 | no column 'serie' | 'series'?
my.csv TASK --columns.target step --columns.features step => 'step' | would be an input
my.csv TASK --validation_data nope.csv         => nope.csv: there is no such file
my.csv TASK --output no/model.longlag          => --output no/model.longlag | mkdir -p no
my.csv TASK --output .               => --output .: it is a folder
my.csv TASK --output my.csv --overwrite        => --output my.csv | uses this file already
my.csv TASK --output there.longlag   => there.longlag: it is there already | --overwrite
my.csv TASK --history no/a.png       => --history no/a.png: there is no folder no
my.csv TASK --history a.jpeg         => --history a.jpeg | .png, .pdf, .svg
my.csv TASK --history there.png      => there.png: it is there already | --overwrite
my.csv TASK --checkpoint there.png   => --checkpoint there.png: it is a file
my.csv TASK --config nope.yaml       => --config | nope.yaml
my.csv --config typo.yaml            => --config: there is no key 'hiden' | did you mean hidden?
my.csv --config deep.yaml            => no key 'columns.seris' | did you mean columns.series?
my.csv --config text.yaml            => --hidden: got 'many' | a whole number
my.csv --config switch.yaml          => --bidirectional: got '3' | true or false
my.csv --config broken.yaml          => --config | YAML | line 2
my.csv --config group.yaml           => --config: columns: got 3 | columns.series, columns.time
my.csv --config grouped.yaml         => --config: columns: got ['series'] | columns.series
my.csv --config number.yaml          => --validation_data: got '3', expected text, or null
my.csv --config names.yaml           => --columns.target: got '[1, 2]' | several with commas
my.csv --config path.yaml            => --output: got "['a']", expected text
my.csv TASK --hidden 3000000000000000000       => --hidden: got | the largest is 2147483647
my.csv TASK --batch_size 9223372036854775808   => --batch_size: got | is 9223372036854775807
my.csv TASK --seed 100000000000000000000       => --seed: got | the largest is 9223372036854775807
my.csv TASK --threads 4294967296     => --threads: got 4294967296 | from 1 to 1024
my.csv TASK --threads 100000000000000000000    => --threads: got | from 1 to 1024
"""
"""What is typed after `longlag train`, and what the message must say."""


@pytest.mark.parametrize("case", IMPOSSIBLE.strip("\n").splitlines())
def test_an_impossible_wish_is_refused_before_training(refused, csv_with, folder, case):
    csv_with()
    (folder / "my.txt").write_text("x")
    (folder / "folder.csv").mkdir()
    rows = [line.split(",") for line in CSV]
    for name, others in (
        ("one", [["w0", str(t), "0", "0", "up"] for t in range(3)]),
        ("same", [[*row[:-1], "up"] for row in rows[1:]]),
        ("alone", [[*row[:-1], row[0]] for row in rows[1:]]),
    ):
        (folder / f"{name}.csv").write_text("\n".join(map(",".join, [rows[0], *others])))
    for name in ("there.longlag", "there.png"):
        (folder / name).write_text("mine")
    (folder / "typo.yaml").write_text("task: classification\nhiden: 3\n")
    (folder / "deep.yaml").write_text("task: classification\ncolumns:\n  seris: s\n")
    (folder / "text.yaml").write_text("task: classification\nhidden: many\n")
    (folder / "switch.yaml").write_text("task: classification\nbidirectional: 3\n")
    for name, values in (
        ("group", "columns: 3"),
        ("grouped", "columns: [series]"),
        ("number", "validation_data: 3"),
        ("names", "columns:\n  target: [1, 2]"),
        ("path", "output: [a]"),
    ):
        (folder / f"{name}.yaml").write_text(f"task: classification\n{values}\n")
    (folder / "broken.yaml").write_text("task: [\n")
    words, said = case.split("=>")
    message = refused("train", *words.replace("TASK", " ".join(TASK)).split())
    for part in said.split("|"):
        assert part.strip() in message


def test_a_tag_that_was_held_out_only_is_explained(refused, folder):
    lines = ["series,time,step,target"]
    lines += [f"w{n},{t},{t},{'ab'[t % 2]}" for n in range(3) for t in range(4)]
    lines[2] = "w0,1,1,odd"
    (folder / "tags.csv").write_text("\n".join(lines))
    # Two of three series are held out: w0 is among them for one of these seeds.
    from longlag.data import read

    messages = []
    for seed in range(4):
        held = read("tags.csv", task="tagging").split(0.6, seed)[1]
        if "w0" in held.names:
            options = ["--validation", "0.6", "--seed", str(seed)]
            messages.append(refused("train", "tags.csv", "--task", "tagging", *options))
    assert messages
    for part in ("tags.csv, row 3", "'target'", "'odd'", "held out only", "--seed"):
        assert part in messages[0]


@pytest.fixture
def model(longlag, csv_with):
    done = longlag("train", csv_with(), *TASK, "--hidden", "2", "--epochs", "1")
    assert done.status == 0, done.err
    return "model.longlag"


def test_a_class_that_was_not_in_training_is_named_by_row(refused, model, folder):
    lines = [*CSV]
    lines[7:10] = [f"w2,{t},0.5,0.1,sideways" for t in range(3)]
    (folder / "new.csv").write_text("\n".join(lines))
    message = refused("predict", model, "new.csv")
    for part in ("new.csv, row 8, column 'target'", "'sideways'", "'down', 'up'"):
        assert part in message


def test_a_target_that_is_not_needed_can_be_left_aside(refused, longlag, model, folder):
    for name, target in (("other", "sideways"), ("missing", "nan")):
        rows = [line.replace("down", target) for line in CSV]
        (folder / f"{name}.csv").write_text("\n".join(rows))
        assert "--no_score" in refused("predict", model, f"{name}.csv")
        done = longlag("predict", model, f"{name}.csv", "--no_score", "--output", f"{name}_out.csv")
        assert done.status == 0, done.err
    (folder / "feature.csv").write_text("\n".join(CSV).replace("w3,0,-0.5", "w3,0,high"))
    assert "--no_score" not in refused("predict", model, "feature.csv")


def test_a_file_of_its_own_for_validation_may_have_further_columns(longlag, csv_with, folder):
    rows = [f"{line},{'a note' if n else 'note'}" for n, line in enumerate(CSV)]
    (folder / "held.csv").write_text("\n".join(rows))
    words = ("--validation_data", "held.csv", "--hidden", "2", "--epochs", "1")
    done = longlag("train", csv_with(), *TASK, *words)
    assert done.status == 0, done.err


def test_a_sweep_speaks_of_options_too(refused, csv_with):
    assert "give --missing" in refused("sweep", csv_with(5, "w1,0,,0.1,up"), *TASK)


def test_a_class_that_was_not_in_training_is_named_in_other_formats(refused, longlag, folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 5, 2))
    np.savez(folder / "my.npz", x=x, y=np.arange(20) % 2)
    assert longlag("train", "my.npz", *TASK, "--hidden", "2", "--epochs", "1").status == 0
    np.savez(folder / "new.npz", x=x, y=np.where(np.arange(20) == 6, 7, 0))
    message = refused("predict", "model.longlag", "new.npz")
    for part in ("new.npz, y[6]", "the class 7", "0, 1"):
        assert part in message
    head = "@problemName a\n@timeStamps false\n@univariate false\n@dimensions 2\n"
    head += "@equalLength true\n@seriesLength 2\n@classLabel true 0 1 b\n@data\n"
    (folder / "my.ts").write_text(head + "1,2:3,4:0\n2,3:1,0:1\n1,0:2,2:0\n0,0:1,1:1\n")
    (folder / "new.ts").write_text(head + "1,2:3,4:0\n2,3:1,0:b\n")
    options = ["--hidden", "2", "--epochs", "1", "--overwrite", "--validation", "0.5"]
    assert longlag("train", "my.ts", *TASK, *options).status == 0
    message = refused("predict", "model.longlag", "new.ts")
    for part in ("new.ts, row 10, column 'target'", "'b'"):
        assert part in message


def test_other_features_are_refused(refused, longlag, model, folder):
    (folder / "fewer.csv").write_text("series,time,step\na,1,0.5\n")
    message = refused("predict", model, "fewer.csv")
    for part in ("fewer.csv, row 1", "'noise'", "say what it is called with --columns.series"):
        assert part in message
    np.savez(folder / "more.npz", x=np.zeros((2, 3, 4)))
    message = refused("predict", model, "more.npz")
    for part in ("more.npz", "4 features", "expected 2", "'step', 'noise'"):
        assert part in message


def test_columns_of_a_file_without_columns_are_refused(refused, folder):
    np.savez(folder / "my.npz", x=np.zeros((4, 3, 1)), y=np.arange(4))
    message = refused("train", "my.npz", *TASK, "--columns.target", "y")
    assert "my.npz has no columns" in message


def test_a_damaged_model_is_refused(refused, model, folder, csv_with):
    data = bytearray((folder / model).read_bytes())
    data[-5] ^= 1
    (folder / "flipped.longlag").write_bytes(data)
    (folder / "cut.longlag").write_bytes(data[:100])
    for name in ("flipped.longlag", "cut.longlag", "my.csv"):
        message = refused("predict", name, csv_with())
        assert name in message
        assert "damaged" in message or "cut short" in message
    assert "no such file" in refused("predict", "nope.longlag", "my.csv")


def test_the_output_of_predict_is_checked_first(refused, model, csv_with, folder):
    (folder / "there.csv").write_text("mine")
    for name, said in (
        ("there.csv", "--overwrite"),
        ("no/p.csv", "no folder no"),
        ("p.txt", "expected one of .csv"),
    ):
        assert said in refused("predict", model, "my.csv", "--output", name)
    message = refused("predict", model, "my.csv", "--output", "my.csv", "--overwrite")
    assert "uses this file already" in message


@pytest.mark.parametrize("option", [[], ["--checkpoint", "run"], ["--history", "curves.svg"]])
def test_a_full_disk_ends_with_the_path(longlag, csv_with, folder, monkeypatch, option):
    from longlag.storage import atomic

    written, name = atomic._write_new, option[-1] if option else "model.longlag"

    def full(path, write, mode=None):
        if name in str(path):
            path.touch()
            raise OSError(28, "No space left on device")
        written(path, write, mode)

    monkeypatch.setattr(atomic, "_write_new", full)
    csv_with()
    done = longlag("train", "my.csv", *TASK, "--hidden", "2", "--epochs", "1", *option)
    assert done.status == 2
    path = "run/settings.json" if name == "run" else name
    assert done.err.endswith(f"longlag: {path}: No space left on device\n")
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / path).exists()


def test_a_full_disk_behind_standard_output_is_named(longlag, model, csv_with, monkeypatch):
    import sys

    def full(text):
        raise OSError(28, "No space left on device")

    csv_with()
    monkeypatch.setattr(sys.stdout, "write", full)
    done = longlag("predict", model, "my.csv", "--output", "-")
    assert done.status == 2
    assert done.err.endswith("longlag: standard output: No space left on device\n")


@pytest.mark.parametrize("size", [2**58, 2**62])  # 2 ** 64 bytes overflow
@pytest.mark.parametrize(
    ("command", "advice"),
    [("train", "--hidden"), ("predict", "a smaller --batch_size"), ("report", "--sequences")],
)
def test_too_little_memory_says_what_to_give(
    longlag, model, csv_with, monkeypatch, command, advice, size
):
    import torch

    from longlag.layers import SequenceModel
    from longlag.pipeline import memory

    owner, name = (memory, "memory_report") if command == "report" else (SequenceModel, "forward")
    monkeypatch.setattr(owner, name, lambda *inputs, **named: torch.empty(size))
    data = [csv_with(), *TASK, "--overwrite"] if command == "train" else [model, csv_with()]
    done = longlag(command, *data)
    assert done.status == 2
    last = done.err.splitlines()[-1]
    assert last.startswith("longlag: there is not enough memory (")
    assert advice in last


def test_memory_that_python_lacks_is_told_too(refused, csv_with, monkeypatch):
    from longlag.pipeline import dataset

    def full(*arguments, **named):
        raise MemoryError

    monkeypatch.setattr(dataset, "read", full)
    message = refused("train", csv_with(), *TASK)
    assert "there is not enough memory (MemoryError). Give smaller --hidden" in message


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (None, "metadata: got None, expected an object"),
        ([], "metadata: got [], expected an object"),
        ({"baseline": None}, "the baseline None is not of its task, classification"),
        ({"baseline": "sideways"}, "the baseline 'sideways' is not of its task"),
        ({"baseline": {"a": 1}}, "is not of its task"),
    ],
)
def test_a_model_without_what_prediction_needs_is_refused(
    refused, model, csv_with, folder, metadata, said
):
    from longlag.storage import read_archive, write_archive

    path = folder / model
    document, tensors = read_archive(path, "model")
    whole = document["metadata"]
    document["metadata"] = {**whole, **metadata} if metadata else metadata
    write_archive(path, "model", document, tensors)
    message = refused("predict", model, csv_with())
    assert message.startswith(f"longlag: {model}: ")
    assert said in message


@pytest.mark.parametrize("text", ["[1]", "3", "{"])
def test_noted_settings_that_are_damaged_are_named(longlag, csv_with, folder, text):
    words = ["train", csv_with(), *TASK, "--hidden", "2", "--epochs", "1", "--checkpoint", "run"]
    assert longlag(*words).status == 0
    (folder / "run" / "settings.json").write_text(text)
    done = longlag(*words, "--overwrite")
    assert done.status == 2
    assert done.err.count("longlag: run/settings.json: it is damaged") == 1


def test_debug_shows_the_traceback(longlag, csv_with, monkeypatch):
    csv_with(5, "w1,0,nan,0.1,up")
    plain = longlag("train", "my.csv", *TASK)
    assert "Traceback" not in plain.err
    for words, value in ((["--debug"], "0"), ([], "1")):
        monkeypatch.setenv("LONGLAG_DEBUG", value)
        shown = longlag("train", "my.csv", *TASK, *words)
        assert shown.status == 2
        assert "Traceback" in shown.err
        assert "read_csv" in shown.err
        assert shown.err.endswith(plain.err)


def of_numpy(*given, **named):
    return np.zeros(2) + np.zeros(3)


def of_python(*given, **named):
    return int("many")


def of_another_kind(*given, **named):
    raise RuntimeError("a fault")


@pytest.mark.parametrize("broken", [of_numpy, of_python, of_another_kind])
def test_a_fault_of_longlag_is_not_told_as_a_mistake(longlag, csv_with, monkeypatch, broken):
    """Neither a ValueError that no check raised: of NumPy, in C, or of Python."""
    from longlag.pipeline import fitting

    monkeypatch.setattr(fitting, "fit", broken)
    done = longlag("train", csv_with(), *TASK)
    assert done.status == 1
    assert "Traceback" in done.err
    assert broken.__name__ in done.err
    assert done.err.splitlines()[-1].startswith("longlag: this is a bug in longlag; please report")


def test_what_a_check_raises_is_told_whatever_its_class(longlag, csv_with, monkeypatch):
    from longlag import arguments
    from longlag.pipeline import fitting

    def checked(*given, **named):
        arguments.check_number("leak", 3.0, most=1.0)

    monkeypatch.setattr(fitting, "fit", checked)
    done = longlag("train", csv_with(), *TASK)
    assert done.status == 2
    assert "Traceback" not in done.err
    assert done.err.startswith("longlag: leak: got 3.0, expected a number")


def test_a_loss_that_diverges_ends_with_status_3_and_advice(longlag, csv_with, folder):
    csv_with()
    before = contents(folder)
    options = ["--optimizer", "sgd", "--learning_rate", "1e38", "--clip_norm", "null"]
    done = longlag("train", "my.csv", *TASK, *options, "--hidden", "4")
    assert done.status == 3
    assert contents(folder) == before
    last = done.err.splitlines()[-1]
    for part in ("longlag: training stopped at step", "--learning_rate", "No model was written"):
        assert part in last
    assert "Traceback" not in done.err


def test_a_run_that_fails_saves_the_best_weights_so_far(longlag, csv_with, folder, monkeypatch):
    from longlag.pipeline.fitted import Fitted
    from longlag.training.evaluation import Evaluator

    run, calls = Evaluator.run, []

    def full(self, *arguments):
        calls.append(0)
        if len(calls) == 4:
            raise OSError(28, "No space left on device", "logs/metrics.csv")
        return run(self, *arguments)

    monkeypatch.setattr(Evaluator, "run", full)
    csv_with()
    done = longlag("train", "my.csv", *TASK, "--hidden", "4")
    assert done.status == 2
    assert "saved: model.longlag, with the best weights so far, of epoch" in done.out
    assert "logs/metrics.csv: No space left on device" in done.err
    fitted = Fitted.load(folder / "model.longlag")
    assert fitted.predict(fitted.preparation.read(folder / "my.csv")).score is not None

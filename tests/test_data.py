"""Names and paths → datasets: the table, .npz files, imports, verification, and where things are looked for."""

import contextlib
import gzip
import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from importlib import resources

import numpy as np
import pytest

import lockstep.data
from lockstep import language
from lockstep.data import DATASETS, available, contents, describe, fetch, import_folder, load, path, read_idx, verify
from lockstep.data import digits as digits_file
from lockstep.errors import LockstepError
from lockstep.files import intake
from test_idx import write_folder

LOCKSTEP_DATA = os.environ.get("LOCKSTEP_DATA")
DOWNLOADED = [name for name, entry in DATASETS.items() if entry.mirrors]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine without datasets."""
    monkeypatch.delenv("LOCKSTEP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("lockstep.data.places.SYSTEM", tmp_path / "system")


@pytest.fixture(params=DOWNLOADED)
def known(request, monkeypatch):
    """The name of a dataset of the table, found under LOCKSTEP_DATA."""
    name = request.param
    if not LOCKSTEP_DATA or not os.path.isdir(os.path.join(LOCKSTEP_DATA, name)):
        reason = f"{name} is not under LOCKSTEP_DATA ({LOCKSTEP_DATA})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    monkeypatch.setenv("LOCKSTEP_DATA", LOCKSTEP_DATA)
    return name


def refused(function, *words, code):
    with pytest.raises(LockstepError) as raised:
        function()
    assert raised.value.code == code, raised.value
    for word in words:
        assert word in str(raised.value)
    return raised.value


# --------------------------------------------------------------------------------------------------------- the table


def assert_as_described(name):
    data, facts, entry = load(name, offline=True), describe(name), DATASETS[name]
    assert data.train_images.shape == (entry.n_train, *entry.image_shape)
    assert data.test_images.shape == (entry.n_test, *entry.image_shape)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.class_names == facts.class_names == entry.class_names
    assert (facts.n_train, facts.n_test, facts.image_shape) == (entry.n_train, entry.n_test, entry.image_shape)
    assert data.hashes == {file.name: file.sha256 for file in entry.files}
    assert set(data.train_labels) == set(data.test_labels) == set(range(len(entry.class_names)))
    return data


def test_the_digits_are_as_described():
    data = assert_as_described("digits")
    assert describe("digits").state == "embedded"
    assert [row.state for row in verify("digits")] == ["right"]
    assert fetch("digits", offline=True).is_dir()
    assert np.bincount(data.test_labels).tolist() == [36] * 10
    assert len({image.tobytes() for image in (*data.train_images, *data.test_images)}) == 1797


def test_datasets_on_this_machine_are_as_described(known):
    assert_as_described(known)
    assert describe(known).state.startswith("found in")
    assert {row.state for row in verify(known)} == {"right"}


def test_the_digits_are_pinned():
    """Every measurement on the digits rests on these bytes."""
    data = load("digits")
    assert [contents.array_hash(array)[:16] for array in data.arrays().values()] == [
        "dc89cd9c2934081a",
        "d53013f9ef0dde19",
        "cdac64d8b13023ec",
        "cae7343391cf0141",
    ]


def test_enlarging_agrees_with_a_plain_loop():
    image = np.arange(64).reshape(8, 8) % 17
    expected = np.zeros((28, 28))
    for row in range(28):
        for column in range(28):
            for k in range(8):
                for m in range(8):
                    weight = max(0, 1 - abs(row - 3 * k - 3) / 3) * max(0, 1 - abs(column - 3 * m - 3) / 3)
                    expected[row, column] += weight * image[k, m] * 255 / 16
    found = digits_file.enlarge(image[None])[0]
    assert np.abs(found - expected).max() <= 0.5 + 1e-9
    assert digits_file.enlarge(np.full((1, 8, 8), 16)).max() == 255
    assert found[3, 6] == round(255 / 16)


def test_the_digits_can_be_learned():
    data = load("digits")
    train, test = (images.reshape(len(images), -1) / 255.0 for images in (data.train_images, data.test_images))
    centres = np.stack([train[data.train_labels == digit].mean(axis=0) for digit in range(10)])
    nearest = ((test[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == data.test_labels).mean() > 0.85


def test_digits_that_were_changed_are_refused(monkeypatch, tmp_path):
    content = bytearray(digits_file.source().read_bytes())
    monkeypatch.setattr(digits_file, "source", lambda: tmp_path / "digits.csv.gz")
    content[-5] ^= 1
    (tmp_path / "digits.csv.gz").write_bytes(content)
    refused(lambda: load("digits"), "damaged", "install Lockstep again", code="LS-305")
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(b"0,1\n"))
    refused(lambda: load("digits"), "SHA-256", code="LS-303")


def test_digits_that_were_not_installed_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(digits_file, "__file__", str(tmp_path / "digits.py"))
    refused(lambda: load("digits"), "a part of Lockstep", "install Lockstep again", code="LS-301")


def test_the_digits_are_scikit_learns_bit_for_bit():
    sklearn = pytest.importorskip("sklearn.datasets")
    theirs = sklearn.load_digits()
    content = gzip.decompress(digits_file.source().read_bytes()).decode("ascii")
    ours = np.loadtxt(content.splitlines(), delimiter=",", dtype=np.int64)
    np.testing.assert_array_equal(ours[:, :64].reshape(-1, 8, 8), theirs.images)
    np.testing.assert_array_equal(ours[:, 64], theirs.target, strict=True)
    shipped = resources.files("sklearn") / "datasets" / "data" / "digits.csv.gz"
    assert shipped.read_bytes() == digits_file.source().read_bytes()


def test_who_made_the_digits_is_said_beside_them():
    text = digits_file.source().with_name("LICENSE").read_text(encoding="utf-8")
    for words in ("Alpaydin", "Kaynak", "UCI", "CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"):
        assert words in text
    assert DATASETS["digits"].licence.startswith("CC BY 4.0 (E. Alpaydin, C. Kaynak")


def test_a_flipped_byte_in_a_known_file_is_refused_by_its_hash(known, monkeypatch, tmp_path):
    folder = tmp_path / "copy" / known
    folder.mkdir(parents=True)
    for file in DATASETS[known].files:
        shutil.copy(os.path.join(LOCKSTEP_DATA, known, f"{file.name}.gz"), folder)
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    labels[77] ^= 1
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + len(labels).to_bytes(4, "big") + labels.tobytes())
    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path / "copy"))
    expected = DATASETS[known].files[3].sha256
    refused(lambda: load(known), "t10k-labels-idx1-ubyte", f"should be {expected}, but is ", code="LS-303")
    assert [row.state for row in verify(known)] == ["right", "right", "right", "wrong"]


def test_a_missing_dataset_is_described_and_refused_offline():
    assert describe("mnist").state == "not on this machine"
    assert describe("mnist").image_shape == (28, 28, 1)
    refused(lambda: load("mnist", offline=True), "lockstep data fetch mnist", "LOCKSTEP_DATA", code="LS-301")
    assert {row.state for row in verify("mnist")} == {"missing"}


def test_a_folder_that_lacks_a_file_is_named(monkeypatch, tmp_path):
    folder = write_folder(tmp_path / "mnist")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path))
    refused(lambda: load("mnist", offline=True), f"{folder} lacks t10k-labels-idx1-ubyte", code="LS-301")


def test_an_unknown_name_gets_a_proposal():
    refused(lambda: load("minst"), 'did you mean "mnist"?', code="LS-209")
    for function in (describe, fetch, verify):
        refused(lambda function=function: function("fashion-minst"), 'mean "fashion-mnist"?', code="LS-209")


@pytest.mark.parametrize(
    "name", ["", "\0", "x" * 5000, "./\0", "./" + "x" * 5000, "/dev/null", ".npz", "~nobody/x", "../"]
)
def test_nothing_that_can_be_typed_leads_to_another_error(name):
    for function in (load, describe, lambda text: load(text, offline=True)):
        with pytest.raises(LockstepError, match="LS-"):
            function(name)


def test_importing_the_package_is_light():
    """Pillow and what downloads are imported where they are used."""
    heavy = {"sklearn", "PIL", "filelock", "urllib.request", "scipy", "platformdirs"}
    command = f"import sys, lockstep.data; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout == "[]\n"


# ------------------------------------------------------------------------------------------------------------ places


def test_places_are_listed_in_the_order_of_looking(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCKSTEP_DATA", str(tmp_path))
    rows = path()
    assert [row.folder.name for row in rows] == [tmp_path.name, "system", "datasets", "datasets"]
    assert [row.exists for row in rows] == [True, False, False, False]


def test_a_user_without_a_home_is_served(monkeypatch):
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda text: text)
    assert all(row.folder.is_absolute() for row in path())
    assert available() == tuple(DATASETS)
    refused(lambda: load("mnist", offline=True), code="LS-301")


# --------------------------------------------------------------------------------------------------------------- npz

IMAGES = np.arange(6 * 5 * 7, dtype=np.uint8).reshape(6, 5, 7)
KERAS = {
    "x_train": IMAGES[:4],
    "y_train": np.array([0, 1, 2, 1]),
    "x_test": IMAGES[4:],
    "y_test": np.array([2, 0], dtype=np.uint8),
}


@pytest.fixture
def save(tmp_path):
    """Writes an .npz like Keras's `mnist.npz`, with changes; None leaves an array out. Returns its path."""

    def write(squeeze=False, **changes):
        arrays = {name: array for name, array in {**KERAS, **changes}.items() if array is not None}
        (np.savez_compressed if squeeze else np.savez)(tmp_path / "own.npz", **arrays)
        return str(tmp_path / "own.npz")

    return write


@pytest.mark.parametrize("squeeze", [False, True])
def test_an_npz_as_keras_writes_it_is_a_dataset(save, squeeze):
    name = save(squeeze, y_train=KERAS["y_train"][:, None], x_train=KERAS["x_train"].astype(">i4"))
    data, facts = load(name), describe(name)
    np.testing.assert_array_equal(data.train_images, KERAS["x_train"][..., None], strict=True)
    np.testing.assert_array_equal(data.train_labels, KERAS["y_train"], strict=True)
    np.testing.assert_array_equal(data.test_labels, [2, 0])
    assert data.test_labels.dtype == np.int64
    assert data.class_names == facts.class_names == ("0", "1", "2")
    assert (facts.image_shape, facts.n_train, facts.n_test) == ((5, 7, 1), 4, 2)
    assert sorted(data.hashes) == sorted(contents.ARRAYS)
    assert data.name == "own"


def test_own_class_names_are_kept(save):
    assert load(save(class_names=np.array(["cat", "dog", "bird", "none"]))).class_names == (
        "cat",
        "dog",
        "bird",
        "none",
    )


ONE_HOT = np.eye(3, dtype=np.uint8)
NPZ_FAULTS = {
    "no test labels": ({"y_test": None}, "no array test_labels or y_test", "LS-306"),
    "fractions": ({"x_test": KERAS["x_test"] / 255}, "(255 * x).round()", "LS-306"),
    "values above 255": ({"x_train": KERAS["x_train"].astype(int) + 200}, "values outside 0 … 255", "LS-306"),
    "values below 0": ({"x_train": KERAS["x_train"].astype(int) - 1}, "values outside 0 … 255", "LS-306"),
    "float labels": ({"y_train": np.zeros(4)}, "astype('int64')", "LS-306"),
    "one-hot labels": ({"y_test": ONE_HOT[:2]}, "argmax(axis=1)", "LS-306"),
    "flat images": ({"x_train": np.zeros((4, 35), np.uint8)}, "reshape(-1, 28, 28)", "LS-306"),
    "channels first": ({"x_train": np.zeros((4, 3, 5, 7), np.uint8)}, "x.transpose(0, 2, 3, 1)", "LS-306"),
    "counts disagree": ({"y_train": np.array([0, 1, 2])}, "4 train images, but 3 train labels", "LS-306"),
    "sizes disagree": (
        {"x_test": np.zeros((2, 5, 6), np.uint8)},
        "train images are 5×7, the test images 5×6",
        "LS-306",
    ),
    "no images": ({"x_test": IMAGES[:0], "y_test": np.zeros(0, int)}, "no test images", "LS-306"),
    "negative label": ({"y_test": np.array([2, -1])}, "number 1 is -1", "LS-309"),
    "label outside": ({"y_test": np.array([3, 0]), "class_names": np.array(["a", "b", "c"])}, "0 … 2", "LS-309"),
    "identifiers": ({"y_test": np.array([10**12, 0])}, "labels lie outside", "LS-309"),
    "one class": ({"y_train": np.zeros(4, int), "y_test": np.zeros(2, int)}, "1 class", "LS-309"),
    "scalar": ({"x_train": np.uint8(3)}, "shape ()", "LS-306"),
    "class names are numbers": ({"class_names": np.arange(3)}, "plain list of texts", "LS-306"),
}


@pytest.mark.parametrize("fault", NPZ_FAULTS)
def test_an_unsuitable_npz_is_refused_with_advice(save, fault):
    changes, message, code = NPZ_FAULTS[fault]
    name = save(**changes)
    refused(lambda: load(name), message, "own.npz", "→", code=code)


def test_the_remedy_of_labels_that_are_texts_works(save, tmp_path):
    """The lines of the hint, run as they stand."""
    arrays = {"y_train": np.array(["dog", "cat", "eel", "cat"]), "y_test": np.array(["eel", "dog"])}
    error = refused(lambda: load(save(**arrays)), "y_train is <U3, not whole numbers", code="LS-306")
    lines = str(error.problems[0].hint).partition("number the classes: ")[2]
    first, second, third = lines.split("; ")
    given = "; ".join(f"{name} = np.array({array.tolist()})" for name, array in arrays.items())
    keep = f"np.savez('more.npz', y_train=y_train, y_test=y_test, {third.removeprefix('and keep ')})"
    code = "; ".join(("import numpy as np", given, first, second, keep))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    with np.load(tmp_path / "more.npz", allow_pickle=False) as found:
        data = load(save(**found))
    assert [data.class_names[label] for label in data.train_labels] == arrays["y_train"].tolist()
    assert [data.class_names[label] for label in data.test_labels] == arrays["y_test"].tolist()


def test_one_hot_labels_of_any_type_have_one_remedy(save):
    for dtype in ("float64", "uint8"):
        one_hot = np.eye(3, dtype=dtype)[KERAS["y_train"]]
        refused(lambda one_hot=one_hot: load(save(y_train=one_hot)), "use y.argmax(axis=1)", code="LS-306")


@pytest.mark.parametrize(
    ("train", "test", "notes"),
    [
        ([0, 1, 2, 1], [2, 0], ["class 1 has no test image"]),
        ([1, 2, 3, 1], [3, 1], ["class 0 has no image", "class 2 has no test image"]),
        ([0, 0, 4, 4], [4, 0], ["classes 1, 2, 3 have no image"]),
        ([0, 0, 1, 1], [2, 1], ["class 2 has no training image", "class 0 has no test image"]),
        ([0, 0, 0, 20], [20, 0], ["classes 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, … (19) have no image"]),
    ],
)
def test_classes_without_images_are_named(save, train, test, notes):
    assert list(load(save(y_train=np.array(train), y_test=np.array(test))).notes) == notes


def test_what_an_import_notes_is_noted_once(save, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    import_folder(save(), "own")
    assert load("own").notes == ("class 1 has no test image",)


def test_all_faults_of_an_npz_are_told_at_once(save):
    name = save(y_test=None, x_train=KERAS["x_train"] / 255)
    assert len(refused(lambda: load(name), code="LS-306").problems) == 2


class Explosive:
    """Running this on loading is what a pickle can do."""

    exploded = False

    def __reduce__(self):
        return setattr, (Explosive, "exploded", True)


def test_nothing_in_an_npz_is_unpickled(save):
    name = save(x_train=np.array([Explosive()], dtype=object))
    refused(lambda: load(name), "Python objects", code="LS-306")
    with open(name, "wb") as file:
        pickle.dump(Explosive(), file)
    refused(lambda: load(name), code="LS-306")
    assert not Explosive.exploded


def test_every_truncation_of_an_npz_is_detected(save, tmp_path):
    name = save(True)
    content = (tmp_path / "own.npz").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "own.npz").write_bytes(content[:length])
        refused(lambda: load(name), code="LS-306")


def test_a_flipped_byte_in_an_npz_changes_nothing_unnoticed(save, tmp_path):
    name = save()
    content = (tmp_path / "own.npz").read_bytes()
    expected = load(name).hashes
    for position in range(0, len(content), 11):
        flipped = bytearray(content)
        flipped[position] ^= 0x21
        (tmp_path / "own.npz").write_bytes(flipped)
        with contextlib.suppress(LockstepError):
            assert load(name).hashes == expected


def npy(shape, body=b"", dtype="|u1"):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + body


@pytest.mark.parametrize(
    "content", [npy((2**40, 5, 7)), npy((10**30, 1, 1)), npy((-1, 5, 7)), b"\x93NUMPY\x09\x00", b""]
)
def test_a_header_that_lies_takes_no_memory(save, content):
    name = save(x_train=None)
    with zipfile.ZipFile(name, "a") as archive:
        archive.writestr("x_train.npy", content)
    refused(lambda: load(name), '"x_train"', code="LS-306")


def test_a_second_member_of_nearly_the_same_name_is_not_read(save):
    name = save()
    with zipfile.ZipFile(name, "a") as archive:
        archive.writestr("x_train", npy((1,), b"x"))
    np.testing.assert_array_equal(load(name).train_images[..., 0], KERAS["x_train"])


def test_an_archive_beyond_the_limit_is_refused_before_it_is_read(save, monkeypatch):
    name = save(True, x_train=np.zeros((300, 5, 7), np.uint8))
    monkeypatch.setattr(intake, "LARGEST_ARRAYS", 5000)
    refused(lambda: load(name), "at most 5,000 are read", code="LS-306")


# ----------------------------------------------------------------------------------------------------------- imports


def test_an_imported_dataset_has_a_name(save, tmp_path):
    source = save(class_names=np.array(["cat", "dog", "bird"]))
    stored = import_folder(source, "pets-2")
    assert stored == tmp_path / "data" / "lockstep" / "datasets" / "pets-2.npz"
    assert available() == (*DATASETS, "pets-2")
    data, original = load("pets-2", offline=True), load(source)
    assert data.hashes == original.hashes
    assert data.class_names == ("cat", "dog", "bird")
    assert data.name == describe("pets-2").name == "pets-2"
    assert source in data.origin
    assert describe("pets-2").state == f"imported in {stored.parent}"
    assert [row.state for row in verify("pets-2")] == ["right"] * 4
    assert fetch("pets-2", offline=True) == stored


def test_idx_folders_and_names_can_be_imported(tmp_path, monkeypatch):
    write_folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    import_folder("mine", "from-idx")
    assert load("from-idx").train_images.shape == (3, 5, 7, 1)
    import_folder("digits", "copy")
    assert load("copy").notes == load("digits").notes


def test_notes_on_an_import_are_said_in_any_language():
    import_folder("digits", "copy")
    note = load("copy").notes[1]
    assert isinstance(note, language.Text)
    assert (note, note.values) == (load("digits").notes[1], {"n": 36})
    with language.speaking("ru"):
        assert "по 36 изображений каждого класса" in language.say(note)


@pytest.mark.parametrize(
    "forms", [None, "", "[", "[" * 10_000, '{"notes": 3}', '{"no note": {"forms": [], "values": {}}}']
)
def test_notes_without_sound_forms_stay_english(forms):
    """Imports of before have none, and whoever has the file may have written them."""
    stored, original = import_folder("digits", "copy"), load("digits").notes
    with np.load(stored, allow_pickle=False) as archive:
        arrays = {name: array for name, array in archive.items() if name != "note_forms"}
    np.savez(stored, **arrays, **({} if forms is None else {"note_forms": np.array([forms])}))
    with language.speaking("ru"):
        assert [language.say(note) for note in load("copy").notes] == [*original]


def test_an_import_that_has_changed_is_refused(save):
    stored = import_folder(save(), "pets")
    with np.load(stored, allow_pickle=False) as archive:
        arrays = dict(archive)
    arrays["test_labels"][0] = 1
    np.savez(stored, **arrays)
    refused(lambda: load("pets"), "SHA-256 of test_labels", "import it again", code="LS-303")
    assert [row.state for row in verify("pets")] == ["right", "right", "right", "wrong"]


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "mnist", "MNIST", "x" * 65, "a\n", "x.npz", "é"])
def test_unusable_names_are_refused(save, name):
    refused(lambda: import_folder(save(), name), code="LS-310")


def test_an_import_is_never_overwritten(save):
    stored = import_folder(save(), "pets")
    before = stored.read_bytes()
    refused(lambda: import_folder("digits", "pets"), 'already a dataset "pets"', code="LS-310")
    assert stored.read_bytes() == before


def test_a_broken_source_leaves_nothing_behind(save, tmp_path):
    refused(lambda: import_folder(save(y_test=None), "pets"), code="LS-306")
    assert available() == tuple(DATASETS)
    assert not (tmp_path / "data").exists()


def test_every_public_name_is_documented():
    for name in lockstep.data.__all__:
        assert name == "DATASETS" or getattr(lockstep.data, name).__doc__

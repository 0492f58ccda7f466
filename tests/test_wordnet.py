"""The published models' classes, from a real server, from the package TFDS, and from neither."""

import functools
import http.server
import logging
import threading
import warnings

import pytest

from bit_keras.checkpoints import DownloadError
from bit_keras.data import accepted_classes
from bit_keras.models import imagenet_classes as wordnet

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_datasets as tfds

LEMMAS = [f"thing_{i}, Res_{i}" for i in range(1000)]
LEMMAS[0] = "tench, Tinca_tinca"
LEMMAS[134] = LEMMAS[517] = "crane"  # the bird and the machine
LEMMAS[638], LEMMAS[639] = "maillot", "maillot, tank_suit"
IDS_21K = [f"n{4475 + 7 * i:08d}" for i in range(21_843)]


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Serves the lists as they are published; its cache is empty."""
    folder = tmp_path / "site"
    folder.mkdir()
    lists = {
        "ilsvrc2012_wordnet_lemmas": LEMMAS,
        "imagenet21k_wordnet_ids": IDS_21K,
        "imagenet21k_wordnet_lemmas": [f"being_{i}" for i in range(21_843)],
    }
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.folder, server.requests = folder, []
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("BIT_KERAS_BASE_URL", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("BIT_KERAS_BASE_URL", "http://127.0.0.1:9/")  # where nobody listens
    monkeypatch.setenv("BIT_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_ilsvrc2012_has_ids_in_the_models_order_and_lemmas(site):
    classes = wordnet.synsets(1000)
    assert classes[0] == wordnet.Synset("n01440764", ("tench", "Tinca_tinca"))
    assert [synset.id for synset in classes] == sorted({synset.id for synset in classes})
    assert [", ".join(synset.lemmas) for synset in classes] == LEMMAS
    names = wordnet.class_names(classes)
    assert len(set(names)) == 1000
    assert names[:2] == ["tench", "thing 1"]
    assert names[134] == "crane (n02012849)"
    assert names[639] == "maillot (n03710721)"
    assert wordnet.synsets(1000) == classes
    assert site.requests == ["/ilsvrc2012_wordnet_lemmas.txt"]  # once, and then from the cache


def test_imagenet21k_is_fetched(site):
    classes = wordnet.synsets(21_843)
    assert [synset.id for synset in classes] == IDS_21K
    assert classes[21_842].lemmas == ("being_21842",)
    assert len(site.requests) == 2


def test_offline_ilsvrc2012_has_ids_as_tfds_has_them(offline, monkeypatch, caplog):
    names = tfds.builder("imagenet2012").info.features["label"].names
    with monkeypatch.context() as patch:
        patch.delattr(tfds, "builder")  # not needed
        with caplog.at_level(logging.WARNING):
            classes = wordnet.synsets(1000)
    assert wordnet.class_names(classes) == [synset.id for synset in classes] == names
    assert names[134] == "n02012849"
    assert "are called by their WordNet ids: cannot download http://127" in caplog.text
    monkeypatch.setattr(wordnet, "_TFDS_IDS", "elsewhere.txt")  # as in TFDS of other versions
    assert wordnet.synsets(1000) == classes


def test_offline_imagenet21k_is_told_in_a_sentence(offline):
    with pytest.raises(
        DownloadError, match=r"imagenet21k_wordnet_ids.txt .*check the network"
    ) as e:
        wordnet.synsets(21_843)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("num_classes", [0, 10, 999, 1001, 18_291])
def test_other_models_have_other_classes(num_classes, offline):
    assert wordnet.synsets(num_classes) is None


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "imagenet21k_wordnet_ids",
            lambda lines: lines[1:],
            r"21,843 WordNet ids .* 21,842 lines;",
        ),
        (
            "imagenet21k_wordnet_ids",
            lambda lines: ["<html>", *lines[1:]],
            "answers with a web page instead of the file",
        ),
        ("ilsvrc2012_wordnet_lemmas", lambda lines: ["", *lines], r"1,001 lines, '' among them"),
        ("ilsvrc2012_wordnet_lemmas", lambda lines: [], r"must hold 1,000 lemmas .* got 0 lines;"),
    ],
)
def test_lists_of_other_contents_are_refused(name, change, message, site):
    path = site.folder / f"{name}.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(DownloadError, match=message):
        wordnet.synsets(1000 if "2012" in name else 21_843)


def test_a_class_goes_by_any_of_its_aliases(site):
    classes = wordnet.synsets(1000)
    aliases = [synset.aliases for synset in classes]
    assert aliases[0] == (
        "n01440764",
        *("tench, Tinca_tinca", "tench", "Tinca_tinca"),
        *aliases[0][4:],
    )
    named = ["tench", "Tinca tinca", "n02012849", "thing_5, Res_5", "thing 6", "tank suit"]
    accepted = accepted_classes(named, aliases)
    assert accepted.nonzero()[1].tolist() == [0, 0, 134, 5, 6, 639]
    with pytest.raises(ValueError, match=r"'crane' may be .* as 'n02012849', 'n03126707'$"):
        accepted_classes(["tench", "crane"], aliases)
    assert wordnet.Synset("n00000001").aliases == ("n00000001",)

"""What training images look like, and which new ones are told to look otherwise."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.helpers import noise, save, save_volume
from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.data.familiar import Familiar, read_familiar, remember
from weakseg.data.images import narrowed, scale_intensity
from weakseg.data.looks import GROUPS, features_of, look_at_case, look_at_image
from weakseg.errors import RunError

DATA = DataConfig()
FEATURES = sum(b - a for a, b in GROUPS.values())


def speckle(seed: int, size=(60, 80)) -> np.ndarray:
    """A fine pattern that is brighter towards the top."""
    fade = np.linspace(1, 0.4, size[0])[:, None]
    return (noise(seed, size) * fade).astype(np.uint8)


def disc(seed: int, size=(60, 80)) -> np.ndarray:
    """A smooth disc before black."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    cy, cx = np.array(size) / 2 + rng.normal(0, 2, 2)
    r = np.hypot(y - cy, x - cx)
    return np.where(r < 22, 180 - 4 * r, 0).clip(0).astype(np.uint8)


def known(folder: Path, make, n: int = 30, **more) -> Familiar:
    """What `n` images of two a patient look like, after a way through JSON."""
    cases = [
        Case(f"s{k}", save(folder / f"s{k}.png", make(k, **more)), "a", patient=f"p{k // 2}")
        for k in range(n)
    ]
    made = remember(cases, DATA, "key")
    read = Familiar.from_json(json.loads(json.dumps(made.to_json())))
    assert read == made
    return read


def test_features_are_what_they_are_called():
    black, half = np.zeros((40, 60)), np.zeros((40, 60))
    half[:20] = 1
    found = features_of(half)
    assert len(found) == len(features_of(black)) == FEATURES
    assert found[:3] == pytest.approx([0.5, 0.5, 0.5], abs=0.02)  # mean, black, white
    assert found[8] == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(found[14:], [1] * 8 + [0] * 8, atol=0.02)  # row by row
    assert features_of(black)[:2].tolist() == [0, 1]
    # A fine pattern has its detail in the first band, a slow wave in a later one.
    wave = np.tile(0.5 + 0.5 * np.sin(np.arange(128) / 8), (128, 1))
    fine = np.tile(np.arange(128) % 2, (128, 1))
    assert np.argmax(features_of(fine)[9:14]) == 0
    assert np.argmax(features_of(wave)[9:14]) >= 3


def test_images_of_the_same_kind_are_familiar_and_others_are_not(tmp_path):
    ours = known(tmp_path / "a", speckle)
    theirs = known(tmp_path / "b", disc)
    assert ours.limit is not None
    same = [bool(ours.unlike(look_at_image(speckle(k)))) for k in range(100, 150)]
    assert sum(same) <= 5
    for k in range(100, 110):
        for run, image in ((ours, disc(k)), (theirs, speckle(k))):
            assert (
                "from the nearest training image"
                in run.unlike(look_at_image(image))["another look"]
            )
    assert not theirs.unlike(look_at_image(disc(0)))


def test_pictures_of_a_darker_machine_are_told(tmp_path):
    ours = known(tmp_path, speckle)
    found = ours.unlike(look_at_image(speckle(200) // 4))["another look"]
    assert "brightness" in found


def test_depth_colour_and_size_are_told(tmp_path):
    ours = known(tmp_path, speckle)
    image = speckle(300)
    deep = image.astype(np.uint16) * 200 + 31
    found = ours.unlike(look_at_image(deep))
    assert "16 bits a sample, training images 8 bits" in found["another depth"]
    colour = np.stack([image, image // 2, image // 3], axis=2)
    assert ours.unlike(look_at_image(colour))["other colour"] == "in colour, training images grey"
    assert "other colour" not in ours.unlike(look_at_image(np.stack([image] * 3, axis=2)))
    large = np.kron(image, np.ones((3, 3), np.uint8))
    assert "240 pixels, training images 80" in ours.unlike(look_at_image(large))["another size"]
    # Where the experiment scales all depths in one way, they are no difference.
    assert look_at_image(deep, "percentile").scaled == look_at_image(image, "percentile").scaled


@pytest.mark.parametrize("factor", [257, 256])
def test_the_same_picture_in_16_bits_is_the_same_to_a_network(tmp_path, factor):
    image = speckle(1)
    wide = image.astype(np.uint16) * factor
    np.testing.assert_array_equal(narrowed(wide), image)
    np.testing.assert_array_equal(scale_intensity(wide), scale_intensity(image))
    ours = known(tmp_path, speckle)
    assert "another depth" not in ours.unlike(look_at_image(wide))


def test_a_noisy_scanner_is_told_and_its_limit_is_of_the_training_images(tmp_path):
    def quiet(seed, sd=4.0):
        image = disc(seed).astype(float)
        return np.where(image > 0, image + sd * noise(seed, image.shape) / 74 - 7, 0).clip(0, 255)

    ours = known(tmp_path, lambda k: quiet(k).astype(np.uint8))
    shares = [k.noise for k in ours.looks]
    assert ours.noise_limits[0] == pytest.approx(1.05 * max(shares))  # of 30 the noisiest
    assert "more noise" not in ours.unlike(look_at_image(quiet(100).astype(np.uint8)))
    found = ours.unlike(look_at_image(quiet(100, 24.0).astype(np.uint8)))["more noise"]
    assert f"{max(shares):.1%} is usual at most in the training images" in found


def of_noise(*by_patient) -> Familiar:
    """What a run remembers of images of this noise, patient by patient."""
    look = look_at_image(disc(0))
    looks = [replace(look, noise=n) for of in by_patient for n in of]
    who = [k for k, of in enumerate(by_patient) for _ in of]
    return Familiar("key", tuple(looks), None, tuple(who))


QUIET = [[0.02 + 0.001 * k] for k in range(11)]


def test_patients_count_alike_in_the_limit_of_noise():
    # 150 patients, the noisiest with half of all images: fewer than one in a hundred.
    many = [[0.02 + 0.0001 * k] for k in range(149)]
    assert of_noise(*many, [0.04] * 149).noise_limits[0] == pytest.approx(1.05 * 0.0348)
    # What an older run remembers names no patients: images count alike.
    older = replace(of_noise(*many, [0.04] * 149), patients=())
    assert older.noise_limits[0] == pytest.approx(1.05 * 0.04)


def test_one_patient_far_out_sets_no_limit_of_noise_and_two_do():
    quiet = 1.05 * 0.03
    assert of_noise(*QUIET).noise_limits[0] == pytest.approx(quiet)
    assert of_noise(*QUIET, [0.2] * 30).noise_limits[0] == pytest.approx(quiet)
    # As much as two of them have.
    assert of_noise(*QUIET, [0.2], [0.15]).noise_limits[0] == pytest.approx(1.05 * 0.15)
    assert of_noise(*QUIET, [0.04]).noise_limits[0] == pytest.approx(1.05 * 0.04)  # not so far
    # Too few to tell what is far.
    assert of_noise([0.02], [0.02], [0.2]).noise_limits[0] == pytest.approx(1.05 * 0.2)


def test_training_images_without_noise_tell_of_what_has_more_than_rounding():
    still = of_noise([0.0], [0.0], [0.0], [0.0])
    assert still.usual_noise == (0.0,)
    assert still.why_no_limit == ""
    quiet, loud = (replace(still.looks[0], noise=n) for n in (0.004, 0.03))
    assert still.unlike(quiet) == {}
    found = still.unlike(loud)["more noise"]
    assert "noise of 3.0% of the tissue's intensity, 0.0% is usual at most" in found


def test_too_few_images_that_tell_their_noise_say_why_new_ones_are_not_told_of():
    few = of_noise([0.1], [None], [0.1], [None])
    assert few.noise_limits == (None,)
    assert few.why_no_limit.startswith("of 4 that were looked at 2 tell their noise, and 3 are")
    two = replace(few, looks=tuple(replace(k, noise=0.1, more_noise=(None,)) for k in few.looks))
    assert "0 tell their noise in modality 2, and" in two.why_no_limit
    assert Familiar("key", (), None).why_no_limit == ""


def test_what_an_earlier_version_remembers_gives_no_reason_that_it_does_not_know():
    held = json.loads(json.dumps(of_noise([0.1], [None], [None], [None]).to_json()))
    assert not Familiar.from_json(held).older
    for look in held["looks"]:
        del look["noise"], look["more_noise"]
    old = Familiar.from_json(held)
    assert old.noise_limits == (None,)
    assert "earlier version, which told no noise" in old.why_no_limit
    assert not re.search("dark|white", old.why_no_limit)


def test_slices_of_a_volume_are_one_patient(tmp_path):
    def slices(k, sd):
        values = 100 + 100 * sd * np.random.default_rng(k).standard_normal((24, 24, 5))
        values[:6] = 0
        path = save_volume(tmp_path / f"v{k}.nii.gz", values.astype(np.float32))
        return [Case(f"v{k}_{z}", path, "a", slice=z, volume=f"v{k}") for z in range(5)]

    cases = [c for k in range(5) for c in slices(k, 0.3 if k == 2 else 0.02)]
    found = remember(cases, DATA, "key")
    assert found.patients == tuple(np.repeat(range(5), 5))
    assert found.noise_limits[0] < 0.1 < max(k.noise for k in found.looks)


def page(seed, white=True):
    """A small dark object on a white page, or on one that is grey by noise."""
    image = np.full((64, 64), 255.0)
    if not white:
        image = 128 + 6 * np.random.default_rng(seed).standard_normal(image.shape)
    image[20:32, 20 + seed % 9 : 32 + seed % 9] = 30
    return image.astype(np.uint8)


def test_white_that_training_images_have_too_is_not_told_of(tmp_path):
    mixed = known(tmp_path / "mixed", lambda k: page(k, white=k % 2 == 0), n=20)
    assert mixed.noise_limits[0] is not None
    assert mixed.unlike(look_at_image(page(100))) == {}
    # One of twenty is the exception.
    grey = known(tmp_path / "grey", lambda k: page(k, white=k == 0), n=20)
    found = grey.unlike(look_at_image(page(100)))["noise that cannot be told"]
    assert re.fullmatch(r"9\d% of it is as bright as can be, which hides noise; .*", found)


def test_what_an_older_run_remembers_tells_no_noise(tmp_path):
    held = known(tmp_path, disc).to_json()
    for look in held["looks"]:
        del look["noise"]
    older = Familiar.from_json(held)
    assert older.noise_limits == (None,)
    loud = np.where(disc(0) > 0, noise(0, (60, 80)), 0).astype(np.uint8)
    assert "more noise" not in older.unlike(look_at_image(loud))


def test_deep_images_stay_deep():
    deep = speckle(1).astype(np.uint16) * 16 + 5
    assert narrowed(deep) is deep
    nearly = speckle(1).astype(np.uint16) * 257
    nearly[-1, -1] = 3
    assert narrowed(nearly) is nearly
    assert scale_intensity(nearly).max() == 1


def test_of_few_patients_no_distance_is_usual(tmp_path):
    assert known(tmp_path, speckle, n=4).limit is None
    assert remember([], DATA, "key").unlike(look_at_image(speckle(0))) == {}


def test_volumes_are_held_against_spacing_and_orientation(tmp_path):
    where = np.array([[-1.0, 0, 0, 9], [0, -1, 0, 9], [0, 0, 2, 9], [0, 0, 0, 1]])

    def case(k, affine, scale=1.0):
        rng = np.random.default_rng(k)
        values = (rng.normal(100, 10, (12, 12, 12)) * scale).astype(np.float32)
        path = save_volume(tmp_path / f"v{k}.nii.gz", values, affine)
        return Case(f"v{k}", path, "a", patient=f"p{k}")

    ours = remember([case(k, where) for k in range(8)], DATA, "key")
    # Volumes are z-scored: their unit does not count.
    assert not ours.unlike(look_at_case(case(20, where, 50.0), DATA)).keys() - {"another look"}
    found = ours.unlike(look_at_case(case(21, where @ np.diag([2, 1, 1, 1])), DATA))
    assert found["another spacing"] == "voxels of 2 × 1 × 2 mm, training volumes 1 × 1 × 2 mm"
    found = ours.unlike(look_at_case(case(22, where @ np.diag([-1, 1, 1, 1])), DATA))
    assert found["another orientation"] == "axes RPS, training volumes LPS"
    found = ours.unlike(look_at_case(case(23, np.eye(4)), DATA))
    assert not found.keys() - {"another look"}
    blank = replace(look_at_case(case(24, where), DATA), features=(9.0,) * FEATURES)
    assert "from the nearest training volume" in ours.unlike(blank)["another look"]


def test_noise_of_volumes_is_told_of_each_modality_by_its_own_limit(tmp_path):
    def case(k, sds):
        files = []
        for m, sd in enumerate(sds):
            values = 100 + 100 * sd * np.random.default_rng((k, m)).standard_normal((16, 16, 6))
            values[:, 0] = 0
            files.append(save_volume(tmp_path / f"v{k}_{m}.nii.gz", values.astype(np.float32)))
        return Case(f"v{k}", files[0], "a", more=tuple(files[1:]), patient=f"p{k}")

    made = remember([case(k, (0.02, 0.1)) for k in range(3)], DATA, "key")
    ours = Familiar.from_json(json.loads(json.dumps(made.to_json())))
    assert ours == made
    assert len(ours.noise_limits) == 2
    assert "more noise" not in ours.unlike(look_at_case(case(10, (0.02, 0.1)), DATA))
    found = ours.unlike(look_at_case(case(11, (0.02, 0.2)), DATA))["more noise"]
    assert "tissue's intensity in modality 2, " in found
    assert "at most in the training volumes" in found
    assert "modality 1" not in found
    assert "in modality 1" in ours.unlike(look_at_case(case(12, (0.1, 0.1)), DATA))["more noise"]
    # One modality alone is held against the first.
    assert "modality" not in ours.unlike(look_at_case(case(13, (0.1,)), DATA))["more noise"]


def test_what_a_run_remembers_is_read_whole_or_refused_with_its_file(tmp_path):
    path = tmp_path / "images.json"
    held = of_noise([0.1, 0.2], [0.3]).to_json()
    path.write_text(json.dumps(held))
    assert read_familiar(path).to_json() == held
    looks = [held["looks"][0] | {"features": [0.5]}, *held["looks"][1:]]
    less = [{k: v for k, v in held["looks"][0].items() if k != "features"}]
    for key, value in (
        ("patients", [0]), ("patients", 3), ("looks", looks), ("looks", less), ("looks", [7]),
    ):  # fmt: skip
        path.write_text(json.dumps(held | {key: value}))
        with pytest.raises(RunError, match="damaged") as told:
            read_familiar(path)
        assert told.value.where == str(path)

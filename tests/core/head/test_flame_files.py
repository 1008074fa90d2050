"""FLAME files, on the synthetic head of tests/golden (true keys and shapes, 98 vertices, random numbers)."""

import io
import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from magicportrait_core.head.assets import load_head, save_head
from magicportrait_core.head.files import HeadFileError
from magicportrait_core.head.flame_files import read_flame
from magicportrait_core.head.landmarks_68 import contour_row, read_landmarks_68
from magicportrait_core.head.safe_pickle import read_pickle
from magicportrait_core.head.skinning import axis_angle_to_matrix, vertex_normals

GOLDEN = Path(__file__).parents[2] / "golden"
FLAME = GOLDEN / "flame_synth.pkl"
TOLERANCE = dict(atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "flame_io.safetensors")


@pytest.fixture(scope="module")
def head():
    return load_head(FLAME)


def posed(head, golden):
    pose = torch.zeros(6, 5, 3)
    pose[:, 0], pose[:, 2] = golden["pose"][:, :3], golden["pose"][:, 3:]
    return head.vertices(golden["shape"], golden["exp"], pose), axis_angle_to_matrix(pose[:, 0])


def table():
    with FLAME.open("rb") as file:
        return read_pickle(file)


def written(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def test_vertices_match_the_released_decoder(head, golden):
    torch.testing.assert_close(posed(head, golden)[0], golden["vertices"], **TOLERANCE)


def test_normals_match_the_released_renderer(head, golden):
    normals = vertex_normals(golden["vertices"], head.faces)
    torch.testing.assert_close(normals, golden["vertex_normals"], **TOLERANCE)


def test_landmarks_match_the_released_decoder(head, golden):
    vertices, rotation = posed(head, golden)
    landmarks = read_landmarks_68(GOLDEN / "landmark_embedding_synth.npy")
    assert torch.equal(contour_row(rotation), golden["dynamic_row"])
    torch.testing.assert_close(landmarks.points(vertices, head.faces), golden["landmarks3d_68"], **TOLERANCE)
    contour = landmarks.points_with_contour(vertices, head.faces, rotation)
    torch.testing.assert_close(contour, golden["landmarks2d_68"], **TOLERANCE)


def test_every_whole_degree_of_yaw_has_its_row():
    yaw = torch.deg2rad(torch.tensor([0.0, 1, 39, 60, -1, -38, -39, -80]))
    rotation = axis_angle_to_matrix(torch.stack((torch.zeros(8), yaw, torch.zeros(8)), 1))
    assert contour_row(rotation).tolist() == [0, 1, 39, 39, 40, 77, 78, 78]


def test_template_obj_gives_the_texture_coordinates(tmp_path):
    shutil.copy(FLAME, tmp_path / "generic_model.pkl")
    wrapped = read_flame(tmp_path / "generic_model.pkl")
    shutil.copy(GOLDEN / "head_template_synth.obj", tmp_path / "head_template.obj")
    head = read_flame(tmp_path / "generic_model.pkl")
    assert head.name == "flame2020" and "non-commercial" in head.licence
    assert len(head.uvs) == (GOLDEN / "head_template_synth.obj").read_text().count("vt ")
    for uvs, faces_uv in ((head.uvs, head.faces_uv), (wrapped.uvs, wrapped.faces_uv)):
        assert faces_uv.shape == head.faces.shape and faces_uv.max() < len(uvs)
        assert uvs.min() >= 0 and uvs.max() <= 1
    across = wrapped.uvs[wrapped.faces_uv][..., 0]
    assert (across.amax(1) - across.amin(1)).max() <= 0.5 + 1e-6  # no triangle runs back across the seam


def test_template_of_another_model_is_refused(tmp_path):
    lines = (GOLDEN / "head_template_synth.obj").read_text().splitlines()
    (tmp_path / "other.obj").write_text("\n".join(lines[:-1]))
    with pytest.raises(HeadFileError, match="other.obj has .* triangles that differ"):
        read_flame(FLAME, tmp_path / "other.obj")


@pytest.mark.parametrize(
    ("file", "name", "licence", "jaw_in_expression"),
    [
        ("generic_model.pkl", "flame2020", "non-commercial", False),
        ("female_model.pkl", "flame2020_female", "non-commercial", False),
        ("flame2023.pkl", "flame2023", "non-commercial", False),
        ("flame2023_no_jaw.pkl", "flame2023_no_jaw", "non-commercial", True),
        ("flame2023_Open.pkl", "flame2023_open", "CC-BY-4.0", False),
    ],
)
def test_published_variants_are_recognised(tmp_path, file, name, licence, jaw_in_expression):
    shutil.copy(FLAME, tmp_path / file)
    head = load_head(tmp_path / file)
    assert (head.name, head.jaw_in_expression) == (name, jaw_in_expression)
    assert licence in head.licence


def test_conversion_keeps_the_head(head, golden, tmp_path):
    save_head(head, tmp_path / "flame.safetensors")
    again = load_head(tmp_path / "flame.safetensors")
    assert again.expression_limits == (-float("inf"), float("inf"))
    assert torch.equal(posed(again, golden)[0], posed(head, golden)[0])


@pytest.fixture
def chumpy(monkeypatch):
    """A class that pickles under the name of chumpy's array, as the authors had in memory."""

    def hold(self, x):
        self.x = x

    array = type("Ch", (), {"__init__": hold, "__module__": "chumpy.ch"})
    module = types.ModuleType("chumpy.ch")
    module.Ch = array
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return array


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_chumpy_arrays_and_sparse_matrices_are_read_without_chumpy(
    head, chumpy, tmp_path, protocol, monkeypatch
):
    sparse = pytest.importorskip("scipy.sparse")
    content = table()
    content["v_template"] = chumpy(content["v_template"])
    content["shapedirs"] = chumpy(content["shapedirs"])
    content["J_regressor"] = sparse.csc_matrix(content["J_regressor"])
    path = written(tmp_path / "generic_model.pkl", content, protocol)
    monkeypatch.undo()  # chumpy is gone again
    again = load_head(path)
    torch.testing.assert_close(again.template, head.template)
    torch.testing.assert_close(again.joints_template, head.joints_template)


class Malicious:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (eval, (f"open({self.marker!r}, 'w').close()",))


def test_malicious_pickle_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "executed"
    content = table() | {"v_template": Malicious(marker)}
    path = written(tmp_path / "generic_model.pkl", content)
    with pytest.raises(HeadFileError, match="builtin.*eval.*nothing in it ran"):
        load_head(path)
    assert not marker.exists()


def test_malicious_landmark_file_is_refused_and_not_run(tmp_path):
    marker, path = tmp_path / "executed", tmp_path / "landmark_embedding.npy"
    np.save(path, np.array({"full_lmk_faces_idx": Malicious(marker)}, dtype=object))
    with pytest.raises(HeadFileError, match="nothing in it ran"):
        read_landmarks_68(path)
    assert not marker.exists()


def test_innocent_looking_names_are_refused_too(tmp_path):
    for payload in (b"cos\nsystem\n(S'true'\ntR.", b"cnumpy\nsave\n.", b"cbuiltins\ngetattr\n."):
        path = tmp_path / "generic_model.pkl"
        path.write_bytes(payload)
        with pytest.raises(HeadFileError, match="asks to load"):
            load_head(path)
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(io.BytesIO(b"\x80\x02P0\n."))


@pytest.mark.parametrize("kept", [0, 10, 1000, 300_000])
def test_truncated_file_is_refused_with_a_sentence(tmp_path, kept):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(FLAME.read_bytes()[:kept])
    with pytest.raises(HeadFileError, match="cut short or of another kind"):
        load_head(path)


def test_body_models_basel_models_and_tables_are_refused(tmp_path):
    body = table() | {"weights": np.zeros((98, 24))}
    with pytest.raises(HeadFileError, match="24 joints, FLAME has 5"):
        load_head(written(tmp_path / "SMPL_NEUTRAL.pkl", body))
    with pytest.raises(HeadFileError, match="Basel face model"):
        load_head(written(tmp_path / "BFM.pkl", {"shapePC": np.zeros(3), "shapeMU": np.zeros(3)}))
    with pytest.raises(HeadFileError, match="lacks v_template"):
        load_head(written(tmp_path / "weights.pkl", {"weights": np.zeros(3)}))
    with pytest.raises(HeadFileError, match="holds a list"):
        load_head(written(tmp_path / "list.pkl", [1, 2]))


def test_wrong_shapes_and_numbers_are_named(tmp_path):
    short = table()
    short["shapedirs"] = np.asarray(short["shapedirs"])[..., :150]
    with pytest.raises(HeadFileError, match=r"shapedirs has shape \(98, 3, 150\), FLAME's is 98 x 3 x 400"):
        load_head(written(tmp_path / "generic_model.pkl", short))
    broken = table()
    broken["v_template"] = np.full((98, 3), np.nan)
    with pytest.raises(HeadFileError, match="finite"):
        load_head(written(tmp_path / "generic_model.pkl", broken))
    broken = table()
    broken["f"] = np.asarray(broken["f"]) + 90
    with pytest.raises(HeadFileError, match="of 98"):
        load_head(written(tmp_path / "generic_model.pkl", broken))

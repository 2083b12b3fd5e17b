"""The anatomy of a simulated subject: surfaces, regions, functional grid.

The cortex is fsaverage5, which ships with nilearn, rotated and scaled a little for each subject.
Its vertices are also those of the simulated fsaverage. nilearn has no labels for it, so regions are
drawn by surface coordinates: all vertices within a distance, on the sphere, of a line between
landmarks given in the template's millimetres (MNI305). The lines follow the published locations of
V1-V3 along the calcarine, hV4, LO, V3A/B, the fusiform gyrus, lateral occipital and posterior
superior temporal cortex and the intraparietal sulcus; their sizes, relative to the cortex, are
about those of NSD's streams. The control is the frontal lobe in front of motor cortex.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nsdldm.demo.atlases import STREAMS
from nsdldm.nsd.layout import HEMISPHERES, LAYERS, SUBJECTS

VOXEL_SIZE = 5.0
SIDES = {"lh": "left", "rh": "right"}
MESHES = {"white": "white_matter", "pial": "pial", "inflated": "inflated", "sphere": "sphere"}
MORPHS = {"sulc": "sulcal", "curv": "curvature"}
SPHERE_RADIUS = 100.0
# Fraction of the way from the pial to the white surface.
DEPTHS = dict(zip(LAYERS, (0.25, 0.50, 0.75), strict=True))

# Reach on the sphere and landmarks on the left white surface, in millimetres.
REGIONS = {
    "early": (32, ((-12, -97, -6), (-12, -84, 2), (-14, -70, 8))),
    "midventral": (17, ((-30, -82, -12), (-24, -76, -10))),
    "midlateral": (18, ((-36, -86, 0), (-30, -92, 4))),
    "midparietal": (17, ((-22, -88, 22), (-24, -76, 32))),
    "ventral": (34, ((-28, -64, -11), (-34, -50, -18), (-36, -40, -21))),
    "lateral": (36, ((-46, -74, 4), (-54, -52, 6))),
    "parietal": (28, ((-24, -66, 46), (-34, -48, 50))),
    "frontal": (62, ((-42, 10, 38), (-38, 38, 20), (-26, 54, 4), (-8, 52, 16), (-8, 26, 44))),
}
# Patches that localisers find, on the left hemisphere: their middle. All reach as far.
PATCHES = {
    "floc-bodies": ((-47, -74, 4), (-42, -58, -16), (-43, -47, -18), (-42, -33, -20)),
    "floc-faces": (
        (-40, -80, -10),
        (-41, -64, -16),
        (-41, -50, -20),
        (-40, -30, -22),
        (-34, -10, -34),
    ),
    "floc-places": ((-32, -84, 22), (-26, -46, -10), (-12, -56, 8)),
    "floc-words": (
        (-42, -77, -8),
        (-46, -62, -12),
        (-47, -52, -14),
        (-40, -44, -18),
        (-45, -34, -20),
    ),
}
PATCH = 10
# Locations of the fovea, the periphery and the lower visual field in early cortex.
FOVEA, PERIPHERY, LOWER_FIELD = (-18, -98, -8), (-16, -66, 8), (-10, -90, 24)
# Eccentricities at these landmarks and the maximum, in degrees; the picture extends to 4.2.
NEAREST, FAR, FARTHEST = 0.3, 2.5, 4.0
# Polar angle from the horizontal meridian, at fractions of the way from the calcarine to the edge
# of early cortex: V1/V2 and the outer edge of V3 are vertical meridians, V2/V3 is horizontal.
BORDERS, ANGLES = (0.0, 0.4, 0.7, 1.0), (0.0, 90.0, 0.0, 90.0)
# Above the calcarine, early cortex is narrower, and V3 begins earlier.
BORDERS_ABOVE = (0.0, 0.4, 0.55, 1.0)


@dataclass(frozen=True)
class Hemisphere:
    """One cortical hemisphere of n vertices; lengths in millimetres.

    Parameters
    ----------
    faces : int array of shape (n_faces, 3)
    surfaces : dict of str to float32 array of shape (n, 3)
        white, pial, inflated, sphere and the three cortical depths.
    morphs : dict of str to float32 array of shape (n,)
        sulc and curv.
    patch : tuple
        The flattened cortex: vertices, coordinates of shape (n_patch, 3), border (bool), as
        `nsdldm.nsd.surfaces.write_patch` takes them.
    labels : dict of str to int array of shape (n,)
        Label of each vertex, by atlas; 0 is unlabelled.
    field : float array of shape (n, 2)
        Visual field positions in early cortex: degrees to the right of and above the centre of
        gaze.
    """

    faces: np.ndarray
    surfaces: dict
    morphs: dict
    patch: tuple
    labels: dict
    field: np.ndarray


@dataclass(frozen=True)
class Grid:
    """The functional volume, centred on the brain.

    Parameters
    ----------
    shape : tuple of 3 int
    zoom : float
        Side of a voxel in millimetres.
    centre : float array of shape (3,)
        Centre of the volume in the coordinates of the surfaces.
    """

    shape: tuple
    zoom: float
    centre: np.ndarray

    def locate(self, coords: np.ndarray) -> np.ndarray:
        """Convert millimetres on the surfaces to voxel coordinates from 0, both of shape (n, 3)."""
        return (coords - self.centre) / self.zoom + (np.array(self.shape) - 1) / 2


def subject_generator(seed: int, subject: str, purpose: str) -> np.random.Generator:
    """Make a random generator that depends only on its three keys.

    Parameters
    ----------
    seed : int
        Of the simulated release.
    subject : str
        subj01 to subj08.
    purpose : str
        Purpose of the random numbers.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng([seed, SUBJECTS.index(subject), *purpose.encode()])


def build_hemispheres(subject: str, seed: int) -> dict[str, Hemisphere]:
    """Build both hemispheres of a subject.

    Parameters
    ----------
    subject : str
        subj01 to subj08.
    seed : int
        Of the simulated release.

    Returns
    -------
    dict of str to Hemisphere
        Keys lh and rh.
    """
    shear = _draw_affine(subject_generator(seed, subject, "anatomy"))
    meshes = {name: load_fsaverage("fsaverage5")[key] for name, key in MESHES.items()}
    flat = load_fsaverage("fsaverage5")["flat"]
    morphs = {
        name: load_fsaverage_data("fsaverage5", data_type=key).data for name, key in MORPHS.items()
    }
    hemispheres = {}
    for hemi, side in SIDES.items():
        template = {name: mesh.parts[side].coordinates for name, mesh in meshes.items()}
        faces = meshes["white"].parts[side].faces.astype(np.int64)
        hemispheres[hemi] = Hemisphere(
            faces=faces,
            surfaces=_deform(template, shear),
            morphs={name: data.parts[side].astype(np.float32) for name, data in morphs.items()},
            patch=cut_patch(flat.parts[side].coordinates, flat.parts[side].faces, faces),
            labels=draw_regions(template["white"], template["sphere"], hemi),
            field=map_visual_field(template["white"], template["sphere"], hemi),
        )
    return hemispheres


def _draw_affine(rng):
    """A rotation of up to 4 degrees about each axis times a scaling of each axis, shape (3, 3)."""
    turn = Rotation.from_euler("xyz", rng.uniform(-4, 4, 3), degrees=True).as_matrix()
    return turn @ np.diag(rng.uniform(0.95, 1.03, 3))


def _deform(template, affine):
    """The subject's surfaces: anatomical surfaces deformed, sphere and inflated surface
    unchanged."""
    white, pial = (template[name] @ affine.T for name in ("white", "pial"))
    surfaces = {"white": white, "pial": pial}
    surfaces |= {layer: pial + depth * (white - pial) for layer, depth in DEPTHS.items()}
    surfaces |= {name: template[name] for name in ("inflated", "sphere")}
    return {name: coords.astype(np.float32) for name, coords in surfaces.items()}


def cut_patch(
    coords: np.ndarray, flat_faces: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the vertices of a flattened hemisphere.

    A patch file lists vertices but no faces; readers keep the faces with all vertices in the patch.
    Vertices are left out until none of these faces spans a cut of the flattened surface.

    Parameters
    ----------
    coords : float array of shape (n, 3)
        Flattened coordinates; vertices without a face of `flat_faces` may be anywhere.
    flat_faces : int array of shape (n_flat, 3)
        Faces of the flattened surface.
    faces : int array of shape (n_faces, 3)
        Faces of the whole surface, in any order of vertices.

    Returns
    -------
    vertices : int64 array of shape (n_patch,)
    coords : float32 array of shape (n_patch, 3)
    border : bool array of shape (n_patch,)
    """
    n = len(coords)
    flat, whole = (np.sort(f, axis=1) @ [n * n, n, 1] for f in (flat_faces, faces))
    spanning = faces[~np.isin(whole, flat)]
    inside = np.isin(np.arange(n), flat_faces)
    spanning = spanning[inside[spanning].all(axis=1)]
    while len(spanning):
        worst = np.bincount(spanning.ravel()).argmax()
        inside[worst] = False
        spanning = spanning[(spanning != worst).all(axis=1)]
    kept = faces[inside[faces].all(axis=1)]
    vertices = np.unique(kept)
    border = np.isin(vertices, _open_edges(kept))
    return vertices, coords[vertices].astype(np.float32), border


def _open_edges(faces):
    """Edges that belong to one face only, shape (n_edges, 2)."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, counts = np.unique(edges, axis=0, return_counts=True)
    return edges[counts == 1]


def draw_regions(white: np.ndarray, sphere: np.ndarray, hemi: str) -> dict[str, np.ndarray]:
    """Label the vertices of a hemisphere.

    Each region is a line between landmarks with all vertices within its reach. If two regions reach
    a vertex, it belongs to the one that is nearer relative to its reach.

    Parameters
    ----------
    white, sphere : float array of shape (n, 3)
        The template's white surface and sphere, in millimetres.
    hemi : {"lh", "rh"}

    Returns
    -------
    dict of str to int64 array of shape (n,)
        Atlases streams (the numbers of the release), nsdgeneral (1 where streams has a label),
        control (1 frontal), prf-visualrois and floc-bodies, -faces, -places and -words.
    """
    distances = [
        _distance_to_line(sphere, _find_landmarks(white, landmarks, hemi)) / reach
        for reach, landmarks in REGIONS.values()
    ]
    nearest = np.argmin(distances, axis=0)
    nearest[np.min(distances, axis=0) > 1] = -1
    streams = np.zeros(len(white), np.int64)
    for position, name in enumerate(REGIONS):
        if name in STREAMS:
            streams[nearest == position] = STREAMS[name]
    frontal = nearest == list(REGIONS).index("frontal")
    return {
        "streams": streams,
        "nsdgeneral": (streams > 0).astype(np.int64),
        "control": frontal.astype(np.int64),
        "prf-visualrois": _draw_visual_areas(white, sphere, streams, hemi),
        **{
            atlas: _draw_patches(white, sphere, middles, hemi) for atlas, middles in PATCHES.items()
        },
    }


def _draw_visual_areas(white, sphere, streams, hemi):
    """V1 to V3 by their distance from the calcarine, ventral and dorsal; hV4 is in midventral."""
    side, away = _measure_away(white, sphere, hemi)
    above = np.digitize(away, BORDERS_ABOVE[1:3])
    area = np.where(side > 0, above, np.digitize(away, BORDERS[1:3]))
    early = streams == STREAMS["early"]
    labels = np.where(early, 1 + 2 * area + (side > 0), 0)
    return np.where(streams == STREAMS["midventral"], 7, labels)


def _draw_patches(white, sphere, middles, hemi):
    """Vertices near each landmark, of the nearest one."""
    reached = [
        _distance_to_line(sphere, [vertex, vertex])
        for vertex in _find_landmarks(white, middles, hemi)
    ]
    nearest = np.argmin(reached, axis=0) + 1
    return np.where(np.min(reached, axis=0) < PATCH, nearest, 0)


def _measure_away(white, sphere, hemi):
    """Side of the calcarine of each vertex, 1 above it, and how far along to the edge of V3."""
    points = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    fovea, periphery, lower = points[_find_landmarks(white, (FOVEA, PERIPHERY, LOWER_FIELD), hemi)]
    across = np.cross(fovea, periphery)
    across *= np.sign(across @ lower) / np.linalg.norm(across)
    above = np.arcsin(np.clip(points @ across, -1, 1))
    return np.sign(above), np.abs(above) / (REGIONS["early"][0] / SPHERE_RADIUS)


def _find_landmarks(white, landmarks, hemi):
    """Vertices nearest to landmarks given for the left hemisphere."""
    mirror = np.array([1 if hemi == "lh" else -1, 1, 1])
    return [int(np.argmin(((white - mirror * point) ** 2).sum(axis=1))) for point in landmarks]


def _distance_to_line(sphere, vertices):
    """Distance in mm of all vertices to the arcs that join some, on a sphere of 100 mm."""
    points = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    steps = np.linspace(0, 1, 20)[:, None]
    arcs = [(1 - steps) * points[a] + steps * points[b] for a, b in pairwise(vertices)]
    line = np.concatenate(arcs)
    line /= np.linalg.norm(line, axis=1, keepdims=True)
    return SPHERE_RADIUS * np.arccos(np.clip(points @ line.T, -1, 1)).min(axis=1)


def map_visual_field(white: np.ndarray, sphere: np.ndarray, hemi: str) -> np.ndarray:
    """Compute the visual field position of each vertex of early cortex.

    Eccentricity grows exponentially with distance from the fovea, so the centre is magnified. The
    polar angle goes from the horizontal meridian at the calcarine to the vertical meridian and back
    at the borders of V1, V2 and V3, with the upper field below the calcarine. The left hemisphere
    sees the right half of the field.

    Parameters
    ----------
    white, sphere : float array of shape (n, 3)
        The template's white surface and sphere, in millimetres.
    hemi : {"lh", "rh"}

    Returns
    -------
    float array of shape (n, 2)
        Degrees to the right of and above the centre of gaze; meaningful in early cortex only.
    """
    points = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    fovea, periphery = points[_find_landmarks(white, (FOVEA, PERIPHERY), hemi)]
    side, away = _measure_away(white, sphere, hemi)
    angle = np.deg2rad(np.interp(away, BORDERS, ANGLES))
    distance = np.arccos(np.clip(points @ fovea, -1, 1)) / np.arccos(fovea @ periphery)
    eccentricity = np.minimum(NEAREST * (FAR / NEAREST) ** distance, FARTHEST)
    right = eccentricity * np.cos(angle) * (1 if hemi == "lh" else -1)
    return np.column_stack([right, -side * eccentricity * np.sin(angle)])


def make_grid(hemispheres: dict[str, Hemisphere], zoom: float = VOXEL_SIZE) -> Grid:
    """Make a functional volume around a brain, with a margin of one voxel.

    Parameters
    ----------
    hemispheres : dict of str to Hemisphere
    zoom : float
        Side of a voxel in millimetres.

    Returns
    -------
    Grid
    """
    pial = np.concatenate([hemispheres[hemi].surfaces["pial"] for hemi in HEMISPHERES])
    low, high = pial.min(axis=0), pial.max(axis=0)
    shape = tuple(int(size) + 3 for size in np.ceil((high - low) / zoom))
    return Grid(shape, zoom, (low + high) / 2)


def label_voxels(hemisphere: Hemisphere, grid: Grid, atlas: str) -> np.ndarray:
    """Project a hemisphere's labels into the volume.

    A voxel belongs to the ribbon if one of the three cortical depths of a vertex lies in it, and
    takes the most frequent label of these.

    Parameters
    ----------
    hemisphere : Hemisphere
    grid : Grid
    atlas : str
        One of the hemisphere's label maps.

    Returns
    -------
    int64 array of shape grid.shape
        -1 outside the ribbon, 0 unlabelled cortex, otherwise the label.
    """
    labels = hemisphere.labels[atlas]
    votes = np.zeros((labels.max() + 1, int(np.prod(grid.shape))), np.int64)
    for layer in LAYERS:
        np.add.at(votes, (labels, _voxels_of(hemisphere, grid, layer)), 1)
    winner = np.where(votes.any(axis=0), votes.argmax(axis=0), -1)
    return winner.reshape(grid.shape)


def _voxels_of(hemisphere, grid, surface):
    """Flat index of the voxel that each vertex of a surface lies in."""
    places = np.floor(grid.locate(hemisphere.surfaces[surface]) + 0.5).astype(np.int64)
    return np.ravel_multi_index(places.T, grid.shape)


def combine_hemispheres(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Combine both hemispheres; the left takes precedence, as in the release.

    Parameters
    ----------
    left, right : float arrays of shape (X, Y, Z)
        -1 outside the hemisphere's ribbon.

    Returns
    -------
    float array of shape (X, Y, Z)
    """
    return np.where(left == -1, right, left)


def locate_fields(hemispheres: dict[str, Hemisphere], grid: Grid) -> np.ndarray:
    """Compute the visual field position of each voxel of early cortex.

    Parameters
    ----------
    hemispheres : dict of str to Hemisphere
    grid : Grid

    Returns
    -------
    float array of shape grid.shape + (2,)
        Mean position over the early vertices in the voxel, of the hemisphere that the voxel
        belongs to: degrees to the right and up; NaN without any.
    """
    fields = np.full((*grid.shape, 2), np.nan)
    for hemi in reversed(HEMISPHERES):
        hemisphere = hemispheres[hemi]
        early = hemisphere.labels["streams"] == STREAMS["early"]
        total = np.zeros((int(np.prod(grid.shape)), 3))
        for layer in LAYERS:
            rows = np.column_stack([hemisphere.field[early], np.ones(early.sum())])
            np.add.at(total, _voxels_of(hemisphere, grid, layer)[early], rows)
        total = total.reshape(*grid.shape, 3)
        known = total[..., 2] > 0
        fields[known] = total[known, :2] / total[known, 2:]
    return fields


def draw_brainmask(ribbon: np.ndarray) -> np.ndarray:
    """Draw a liberal brain mask: the cortex, what it encloses, and a margin of one voxel.

    Parameters
    ----------
    ribbon : bool array of shape (X, Y, Z)

    Returns
    -------
    bool array of shape (X, Y, Z)
    """
    padded = np.pad(ribbon, 3)
    filled = ndimage.binary_fill_holes(ndimage.binary_closing(padded, iterations=2))
    return ndimage.binary_dilation(filled)[3:-3, 3:-3, 3:-3]

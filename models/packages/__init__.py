"""Model packages: a folder with a network and a JSON file that describes it.

A package holds no code. The network is either the weights of an architecture of `models.networks`,
plain arrays (Keras `.weights.h5`, half precision), or an imported graph, see `models.graphs`.
Folders with pickles, Keras archives or saved models are refused, so that a model from an untrusted
source cannot run code.

Since format 2 a package may hold the same network in other forms as well, see `NetworkFiles`, what
each precision loses, and a `Calibration`. None of these affects the fingerprint: it tells which
network and classes made a mask, and a row tells the precision. A calibration changes no mask, only
what is said of it. Were it part of the fingerprint, a model that is calibrated would be another
one, and its archives would be segmented again for the same masks.

`model.schema.json` is the JSON schema of the description.
"""

from models.packages.descriptions import (
    INT8,
    LOSS,
    SHIPPED,
    WEIGHTS_FILE,
    Calibration,
    ModelDescription,
    ModelPackage,
    NetworkFiles,
)
from models.packages.documents import DESCRIPTION_FILE, SCHEMA, PackageError, limits
from models.packages.reading import (
    MAX_INPUT_PIXELS,
    classes_of,
    files_of,
    load_package,
    shipped_names,
)
from models.packages.writing import add_calibration, add_network, write_graph, write_package

__all__ = [
    "DESCRIPTION_FILE",
    "INT8",
    "LOSS",
    "MAX_INPUT_PIXELS",
    "SCHEMA",
    "SHIPPED",
    "WEIGHTS_FILE",
    "Calibration",
    "ModelDescription",
    "ModelPackage",
    "NetworkFiles",
    "PackageError",
    "add_calibration",
    "add_network",
    "classes_of",
    "files_of",
    "limits",
    "load_package",
    "shipped_names",
    "write_graph",
    "write_package",
]

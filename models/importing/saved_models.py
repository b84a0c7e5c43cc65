"""TensorFlow SavedModels: folders with a graph, which may run code, and its variables.

TensorFlow would execute whatever operations the graph has: some read or write files, call Python or
other machines. So a SavedModel is never loaded by TensorFlow here. Its graph is looked through, and
OpenVINO, which only knows arithmetic, reads it as data.
"""

import mmap
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from models.engines import conversion, devices
from models.importing.openvino_models import source_of
from models.importing.sources import Fact, Facts, ModelImportError, Source
from models.protobufs import parts, texts
from models.texts import one_line

GRAPH_FILE = "saved_model.pb"

SIGNATURE = "serving_default"
"""The signature that is imported if there are several."""

INITIALISER = "__saved_model_init_op"
"""A signature that is none: it initialises tables."""

MAX_BYTES = 2 << 30
"""Largest graph with its constants, in bytes: the limit of protobuf."""

MAX_STRUCTURE_BYTES = 32 << 20
"""Largest graph without its constants, in bytes. Parsed, it takes tens of times as much memory."""

MAX_NODES = 500_000
"""Most nodes of a graph with its functions, and of the objects that it was made of."""

VARIABLES = frozenset(
    {
        *("VarHandleOp", "ReadVariableOp", "AssignVariableOp", "AssignAddVariableOp"),
        *("AssignSubVariableOp", "VarIsInitializedOp", "VariableShape", "DisableCopyOnRead"),
        *("ResourceGather", "Variable", "VariableV2", "GuaranteeConst"),
    }
)
CALLS = frozenset({"StatefulPartitionedCall", "If", "While", "Case"})
RANDOM = frozenset(
    {
        *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal"),
        *("RngReadAndSkip", "StatelessRandomGetAlg"),
    }
)
CHECKS = frozenset({"Assert", "CheckNumerics", "CheckNumericsV2"})
STATEFUL = VARIABLES | CALLS | RANDOM | CHECKS
"""Operations with a state that networks have; those of `RANDOM` are left from their training."""

SAVER = frozenset({"Save", "SaveV2", "Restore", "RestoreV2", "MergeV2Checkpoints"})
"""Operations that every SavedModel has to read and write its own variables."""

READERS = frozenset(
    {
        *("ReadFile", "MatchingFiles", "InitializeTableFromTextFile", "ImmutableConst"),
        *("DecodeProtoV2", "EncodeProto", "PyFuncStateless", "Copy", "CopyHost"),
    }
)
"""Operations that read files or call Python although TensorFlow takes them for stateless."""

READER_NAMES = ("Dataset", "Debug", "TPU")
"""Parts of the names of others that do so, or communicate."""

# Numbers of fields in tensorflow/core/protobuf/{saved_model,meta_graph,saver}.proto and in
# tensorflow/core/framework/{graph,node_def,attr_value,function,tensor}.proto.
_META_GRAPHS = 2
_GRAPH, _SAVER, _SIGNATURES, _KEY, _OBJECTS = 2, 3, 5, 1, 7
_NODES, _LIBRARY, _FUNCTIONS = 1, 2, 1
_FUNCTION_NAME, _FUNCTION_NODES = (1, 1), 3
_NAME, _OPERATION, _ATTRIBUTES, _VALUE = 1, 2, 5, 2
_CALLED = (_ATTRIBUTES, _VALUE, 10, 1)
_TENSOR = (_ATTRIBUTES, _VALUE, 8)
_TENSOR_NUMBERS = (4, 5, 6, 7, 10, 11, 13)
_SAVE_TENSOR, _RESTORE_OPERATION = 2, 3


def matches(path: Path) -> bool:
    """Whether this is the folder of a SavedModel."""
    return (path / GRAPH_FILE).is_file()


def read(path: Path) -> Source:
    """Read a network: its signature `serving_default`, or the only one.

    Sizes of the input that are open stay open.

    Raises:
        ModelImportError: the folder is damaged, has links to what is outside, or operations that
            may do more than arithmetic or that OpenVINO does not know.
        EngineError: TensorFlow cannot be imported, which knows the operations.
    """
    _refuse_links(path)
    _check(path)
    conversion.import_openvino()
    import openvino

    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ModelImportError(
            f"{path}: OpenVINO does not know an operation of the network, or it is damaged: "
            f"{one_line(error)}"
        ) from error
    source = source_of(model, str(path))
    named = Facts(name=Fact(path.name, "name of the folder"))
    return replace(source, facts=source.facts.filled_from(named))


def _refuse_links(folder: Path) -> None:
    for file in (folder / GRAPH_FILE, folder / "variables", *(folder / "variables").glob("*")):
        if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
            raise ModelImportError(
                f"{file}: a link to {file.resolve()}, outside the SavedModel: copy the file there"
            )


def _check(path: Path) -> None:
    """Refuse a graph that is damaged, takes much memory or does more than arithmetic."""
    file = path / GRAPH_FILE
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes, expected {MAX_BYTES} at most")
        with file.open("rb") as opened:
            # A view keeps its map open until the last part of it is gone.
            content = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        graphs = list(parts(content, _META_GRAPHS))
        if len(graphs) != 1:
            raise ValueError(f"{len(graphs)} graphs, expected one")
        _check_size(graphs[0])
        refused = _refused_signatures(graphs[0]) or _refused_operation(graphs[0])
    except (OSError, ValueError) as error:
        raise ModelImportError(f"{file}: no SavedModel, or damaged: {error}") from error
    if refused:
        raise ModelImportError(f"{file}: {refused}")


def _check_size(graph: memoryview) -> None:
    nodes = chain(parts(graph, _OBJECTS, _NODES), (node for _, node in _nodes(graph)))
    if any(number >= MAX_NODES for number, _ in enumerate(nodes)):
        raise ValueError(f"more than {MAX_NODES} nodes")
    constants = 0
    for _, node in _nodes(graph):
        for tensor in parts(node, *_TENSOR):
            constants += sum(len(part) for n in _TENSOR_NUMBERS for part in parts(tensor, n))
    if len(graph) - constants > MAX_STRUCTURE_BYTES:
        raise ValueError(
            f"{len(graph) - constants} bytes without its constants, expected "
            f"{MAX_STRUCTURE_BYTES} at most"
        )


def _refused_signatures(graph: memoryview) -> str | None:
    """Say what is wrong with the signatures, if anything is."""
    names = sorted({*texts(graph, _SIGNATURES, _KEY)} - {INITIALISER})
    if not names:
        return "it has no signature: save it with one, such as by model.export() of Keras"
    if SIGNATURE not in names and len(names) > 1:
        return (
            f"it has the signatures {', '.join(names)}, expected {SIGNATURE} or a single one: "
            "save it with the one that segments photos"
        )
    return None


def _nodes(graph: memoryview) -> Iterator[tuple[str, memoryview]]:
    """The nodes of a graph with the names of their functions, empty for those in none."""
    for node in parts(graph, _GRAPH, _NODES):
        yield "", node
    for function in parts(graph, _GRAPH, _LIBRARY, _FUNCTIONS):
        for name in texts(function, *_FUNCTION_NAME)[:1] or ["?"]:
            for node in parts(function, _FUNCTION_NODES):
                yield name, node


def _refused_operation(graph: memoryview) -> str | None:
    """Say which operation cannot be accepted, if there is one."""
    devices.import_tensorflow()
    import tensorflow as tf

    saver = _saver(graph)
    known = tf.Graph()
    functions = {*texts(graph, _GRAPH, _LIBRARY, _FUNCTIONS, *_FUNCTION_NAME)}
    accepted = set(functions)
    for function, node in _nodes(graph):
        [operation] = texts(node, _OPERATION)[-1:] or [""]
        if operation in accepted:
            continue
        place = f" (in its function {function})" if function else ""
        found = f"it has the operation {operation!r}{place}"
        if operation in SAVER:
            scope = function or "".join(texts(node, _NAME)[-1:]).split("/")[0]
            if scope in saver:
                continue
            return f"{found}, which reads or writes files"
        try:
            is_stateful = known.op_def_for_type(operation).is_stateful
        except RuntimeError:
            return f"{found}, which TensorFlow does not know: custom operators may run code"
        is_reader = operation in READERS or any(part in operation for part in READER_NAMES)
        if is_reader or (is_stateful and operation not in STATEFUL):
            return (
                f"{found}, which is no arithmetic: such operations may read or write files, call "
                "Python, print or communicate; save the network without it"
            )
        accepted.add(operation)
    return None


def _saver(graph: memoryview) -> set[str]:
    """Names of the functions that save and restore variables, and of such a scope of nodes."""
    named = (*texts(graph, _SAVER, _SAVE_TENSOR), *texts(graph, _SAVER, _RESTORE_OPERATION))
    nodes = {name.split(":")[0] for name in named}
    called = (
        texts(node, *_CALLED)
        for node in parts(graph, _GRAPH, _NODES)
        if nodes.intersection(texts(node, _NAME))
    )
    scopes = {node.split("/")[0] for node in nodes if "/" in node}
    return scopes.union(*called)

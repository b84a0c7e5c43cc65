"""A request: what a user asked for, the checks before any work, and the job that it comes to."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import date

from models.engines import EngineError, EngineName, EngineOptions, GpuPolicy, Precision
from models.engines.devices import cores
from models.engines.imported import check_engine
from models.mask_options import MaskOptions
from models.merging import MergedClasses
from models.packages import ModelPackage
from models.segmenter import check_confidence, check_windows
from pipeline.errors import ConfigurationError
from pipeline.graph import Job
from pipeline.runs.settings import Settings
from transforms import DateRange, SegmentOptions, storage
from transforms.checking import recovering
from transforms.inputs import listing, manifests, shards
from transforms.inputs.manifests import ManifestError
from transforms.output import (
    archives,
    columns,
    fencing,
    findings,
    model_files,
    names,
    precisions,
    rows,
    stopping,
)
from transforms.output.locking import LOCK, LockedError, OutputLock
from transforms.output.rows import PresentRows
from transforms.planning.policy import Gate, Policy


class RunRequest(Settings):
    """What a user asked for: the settings, and what to segment into which folder.

    Attributes:
        inputs: directories, glob patterns, images, shards and manifests.
        output: the output folder.
        days: first and last day of the images that are done, None for no beginning or end; None:
            images of all days.
    """

    inputs: tuple[str, ...]
    output: str
    days: tuple[date | None, date | None] | None = None

    @property
    def dates(self) -> DateRange | None:
        """The days, and what they mean."""
        return DateRange(*self.days, self.by) if self.days else None


@contextmanager
def prepared(request: RunRequest, run_id: str) -> Iterator[tuple[Job, list[str]]]:
    """Check a request and hold the lock of its output folder, which is cleaned and repaired.

    As a context it gives the job, and notes that the user should read before the work begins.

    Raises:
        ConfigurationError: an INPUT is missing, empty or of no known kind, a mapping does not fit,
            the output folder cannot be written.
        PackageError: the model is unknown or damaged.
        LockedError: another run holds the output folder.
        LockLostError: another run has taken it over meanwhile.
    """
    package, merged = check(request)
    output = storage.absolute(request.output)
    with locked(output, run_id) as lock:
        try:
            storage.remove_unfinished(output)
            stopping.withdraw(output)
            _check_what_died(output, lock, run_id)
            findings.repair_files(output)
            archives.write_card(output, package, mask_options(request), run_id)
        except storage.StorageError as error:
            raise ConfigurationError(str(error)) from error
        job, notes = make_job(request, package, merged, run_id)
        _check_folders(output, job.mask_folder)
        with _kept_folders(output, (job.mask_folder, columns.STATISTICS)) as folders:
            yield replace(job, options=replace(job.options, locked=True, folders=folders)), notes


def check(request: RunRequest) -> tuple[ModelPackage, MergedClasses | None]:
    """Check what a request asks for; its model's description, and what to merge.

    Raises:
        ConfigurationError: an INPUT is missing, empty or of no known kind, a mapping does not fit,
            or results cannot be written to a store such as OUT's.
        PackageError: the model is unknown or damaged.
    """
    try:
        storage.check_writable(request.output)
    except storage.StorageError as error:
        raise ConfigurationError(str(error)) from error
    engine = request.engine
    if engine in (EngineName.OPENVINO, EngineName.LITERT) and (request.gpu or request.require_gpu):
        raise ConfigurationError(
            f"--engine {engine.value}: it runs on CPUs; leave out --gpu and --require-gpu, or the "
            "engine"
        )
    if request.windows and request.confidence:
        raise ConfigurationError("--confidence and --windows exclude each other: leave one out")
    package = model_files.load(request.model)
    try:
        check_engine(package, engine)
    except EngineError as error:
        raise ConfigurationError(f"--engine {engine.value}: {error}") from error
    try:
        if request.windows:
            check_windows(package.input_size)
        if request.confidence:
            check_confidence(package)
    except ValueError as error:
        option = "--windows" if request.windows else "--confidence"
        raise ConfigurationError(f"{option}: {error}") from error
    for spec in request.inputs:
        _check_input(spec, storage.absolute(request.output))
    return package, _read_merged(request.merge, package) if request.merge else None


def make_job(
    request: RunRequest, package: ModelPackage, merged: MergedClasses | None, run_id: str
) -> tuple[Job, list[str]]:
    """The job that a checked request comes to, and notes for the user.

    Raises:
        ConfigurationError: the output folder cannot be read.
    """
    output = storage.absolute(request.output)
    try:
        present = rows.models_in(output)
    except storage.StorageError as error:
        raise ConfigurationError(str(error)) from error
    model = mask_options(request).model_id(package)
    kept = present.pop(model, PresentRows())
    mask_folder, notes = _mask_folder(output, model, kept, present)
    notes += _precision_notes(request, kept)
    options = SegmentOptions(
        output=output,
        run_id=run_id,
        outputs=tuple(name for name in names.BESIDE if getattr(request, name)),
        max_pixels=request.max_pixels,
        projection=request.projection,
        masks=mask_options(request),
        merged=merged,
        engine=_engine_options(request),
        durable=request.durable == "always",
    )
    job = Job(
        inputs=tuple(storage.absolute(spec) for spec in request.inputs),
        package=package,
        options=options,
        mask_folder=mask_folder,
        fold_case=storage.store_of(output).folds_case(output, LOCK),
        unit_size=request.unit_size,
        policy=Policy(
            request.force,
            request.max_attempts,
            request.retry_failed,
            Gate(request.skip_duplicates, request.skip_blurred),
        ),
        dates=request.dates,
        max_images=request.max_images,
        max_bytes=request.max_bytes,
    )
    return job, notes


@contextmanager
def locked(output: str, owner: str, writes: bool = True) -> Iterator[OutputLock]:
    """Hold the lock of an output folder.

    Args:
        output: the folder.
        owner: a run id or another name that nobody else has, see `named`.
        writes: see `OutputLock`.

    Raises:
        ConfigurationError: the folder cannot be written.
        LockedError: somebody else holds it.
        LockLostError: somebody else took it over, and for whatever reason the work inside failed.
    """
    lock = OutputLock(output, owner, writes=writes)
    try:
        lock.acquire()
    except OSError as error:
        raise ConfigurationError(
            f"--output: {output} is not a folder that can be written ({error.strerror}); "
            "give another folder or change its permissions"
        ) from error
    except storage.StorageError as error:
        raise ConfigurationError(f"--output: {error}") from error
    wrote = True
    try:
        yield lock
    except LockedError:  # A job that was submitted before is at work, and goes on.
        wrote = False
        raise
    except Exception:
        with suppress(storage.StorageError):
            fencing.check(output, owner)
        raise
    finally:
        lock.release(wrote)


def _check_what_died(output: str, lock: OutputLock, run_id: str) -> None:
    """Find what a run that died has left damaged; an upload to other stores is never damaged."""
    if not storage.store_of(output).local_paths:
        return
    if lock.unchecked:
        recovering.note_damage(output, lock.unchecked, run_id)
        lock.note_check()
    recovering.note_empty(output, run_id)


@contextmanager
def _kept_folders(output: str, names: Sequence[str]) -> Iterator[tuple[tuple[str, str], ...]]:
    """As a context, folders and their identities; raises FolderGoneError if one does not stay."""
    with ExitStack() as stack:
        try:
            kept = [stack.enter_context(storage.kept_folder(output, name)) for name in names]
        except storage.StorageError as error:
            raise ConfigurationError(f"--output: {error}") from error
        folders = tuple(zip(names, kept, strict=True))
        try:
            yield folders
        except Exception:
            fencing.check_folders(output, folders)  # It would be the cause.
            raise
        fencing.check_folders(output, folders)


def _check_folders(output: str, mask_folder: str) -> None:
    """Raise ConfigurationError where a link would lead the results of a run elsewhere."""
    try:
        for folder in (mask_folder, *columns.ROW_FOLDERS, columns.RUNS, columns.MODELS):
            storage.check_folder(output, folder)
    except storage.StorageError as error:
        raise ConfigurationError(f"--output: {error}") from error


def named(work: str) -> str:
    """A name for what is done in an output folder but is no run, unlike that of any other."""
    return f"{work}-{uuid.uuid4().hex[:6]}"


def mask_options(request: RunRequest) -> MaskOptions:
    """What kind of masks a request asks for."""
    return MaskOptions(request.windows, request.label_ids)


def _engine_options(request: RunRequest) -> EngineOptions:
    gpu = GpuPolicy.WANTED if request.gpu else GpuPolicy.IF_PRESENT
    workers = request.workers or 1
    return EngineOptions(
        name=request.engine,
        precision=request.precision,
        gpu=GpuPolicy.REQUIRED if request.require_gpu else gpu,
        batch_size=request.batch_size,
        threads=max(1, cores() // workers) if workers > 1 else None,
    )


def _read_merged(path: str, package: ModelPackage) -> MergedClasses:
    try:
        return MergedClasses.parse(storage.read(path).decode(), path, package.classes)
    except storage.StorageError as error:
        raise ConfigurationError(f"--merge: {path}: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"--merge: {error}") from error


def _check_input(spec: str, output: str) -> None:
    path = storage.absolute(spec)
    try:
        found = listing.first_image(spec, output)
        # A pattern may end as a manifest does, and a folder as well.
        if manifests.is_manifest(spec) and storage.exists(path) and not storage.is_folder(path):
            manifests.check(path)
    except (listing.InputError, ManifestError, storage.StorageError) as error:
        raise ConfigurationError(str(error)) from error
    if found is None:
        raise ConfigurationError(
            f"{spec}: nothing to segment; found no file with an image's extension "
            f"(.jpg, .png, .webp, .tif, ...) and no shard ({', '.join(shards.extensions())})"
        )


def _mask_folder(
    output: str, model: str, kept: PresentRows, others: Mapping[str, PresentRows]
) -> tuple[str, list[str]]:
    """`masks`, or a folder of its own for a model that is not the first one in this output."""
    own = sorted(filter(names.is_mask_folder, kept.folders))
    if own:
        return own[0], []
    if not any(columns.MASKS in of_other.folders for of_other in others.values()):
        return columns.MASKS, []
    folder = f"{columns.MASKS}-{names.image_name(model).replace('/', '-')}"
    return folder, [
        f"{output} holds results of {', '.join(sorted(others))}; they are kept. All images are "
        f"segmented again for {model}: its rows go to {columns.STATISTICS}/ as well, its masks to "
        f"{folder}/."
    ]


def _precision_notes(request: RunRequest, kept: PresentRows) -> list[str]:
    """What to say of the masks of a model that are kept, if they are not of the precision asked."""
    asked = request.precision
    others = {name: count for name, count in kept.precisions.items() if name != asked.value}
    if asked is Precision.AUTO or request.force or not others:
        return []
    return [
        f"Masks that are done stay as they are ({precisions.in_words(others)}); new ones are made "
        f"in {asked.value}. --force makes all anew."
    ]

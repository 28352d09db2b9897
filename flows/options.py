"""Options that belong to the run and not to a stage: where, with how much, how far. Checked like stage parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from faceline.limits import Limits
from flows.timetable import check_cron, check_zone

VIDEO_EXTENSIONS = (
    *("3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts"),
    *("mxf", "ogv", "ts", "vob", "webm", "wmv"),
)

NIGHTLY = "0 2 * * *"


class Options(BaseModel):
    """Base of all sections that are not a stage's: immutable and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelOptions(Options):
    """Which weights play which role."""

    detector: Literal["auto", "mtcnn"] = Field(default="mtcnn", description="network that finds faces")
    landmarks: Literal["auto", "facemesh"] = Field(default="facemesh", description="network that finds landmarks")
    emotion: Literal["auto", "fer"] = Field(default="fer", description="network that scores the seven emotions")
    identity: Literal["auto", "vggface2", "dlib"] = Field(
        default="auto",
        description="network that tells persons apart; auto: VGGFace2 if its weights are here, else dlib",
    )
    blendshapes: Literal["auto", "face_landmarker", "none"] = Field(
        default="auto",
        description="network that scores the 52 blendshapes; auto: MediaPipe's if its weights are here, else none",
    )
    folder: str | None = Field(
        default=None, description="folder of downloaded weights; null is FACELINE_MODELS, else the user's cache folder"
    )


class RuntimeOptions(Options):
    """How stages are executed; nothing here may change a result."""

    device: Literal["cpu", "cuda", "auto"] = Field(
        default="cpu",
        description="where networks run; cuda: on the GPU, and with a warning on the CPU where there is no usable one; "
        "auto: the same without the warning",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="faces or frames per network call; null: 32 on the CPU, 128 on a GPU",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="stages worked on at the same time; null: the number of cores, at most 4",
    )
    threads: int | None = Field(
        default=None, ge=1, le=256, description="threads of one stage; null shares the cores among the workers"
    )


class RunnerOptions(Options):
    """What Prefect hands the stages to, and how it retries."""

    kind: Literal["processes", "threads", "dask", "ray"] = Field(
        default="processes",
        description="worker processes of this machine, threads of this process, or workers of a Dask or a Ray cluster",
    )
    retries: int = Field(
        default=2, ge=0, le=100, description="how often a stage is tried again after an error that can pass by itself"
    )
    retry_delay_s: float = Field(default=5.0, ge=0, le=3600, description="pause before a retry, in seconds")
    address: str | None = Field(
        default=None,
        min_length=1,
        description="dask, ray: the cluster to use (tcp://host:8786, tls://host:8786; ray://host:10001, host:6379), "
        "auto for the one that the cluster's own configuration names, null for one of this machine",
    )
    wait_s: float = Field(
        default=15.0, gt=0, le=3600, description="dask, ray: how long a cluster that is named may take to answer"
    )
    worker_wait_s: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        description="dask, ray: how long stages wait for a worker while the cluster has none that could take them",
    )
    memory_mib: int | None = Field(
        default=None,
        ge=256,
        description="dask: most memory of a worker of one's own cluster, which is ended beyond; ray: memory asked for "
        "each stage; null for no limit",
    )


class StoreOptions(Options):
    """Where artifacts are kept."""

    root: str = Field(default="artifacts", min_length=1, description="folder (or fsspec URL) of the artifacts")


class RequireOptions(Options):
    """What footage has to offer to be worked on; nothing here may change a result."""

    native_fps: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="least native frame rate, by the frames' times; 0 asks for nothing",
    )


class CustodyOptions(Options):
    """How results can be shown to be what a run left; nothing here may change a result."""

    sign_key: str | None = Field(
        default=None,
        min_length=1,
        description="file with the Ed25519 private key (PEM or OpenSSH, not encrypted) that signs run.json; "
        "null signs nothing",
    )


class LimitOptions(Options):
    """What footage may ask of the machine; beyond a limit it is refused in one line, and no result changes."""

    max_megapixels: float = Field(
        default=Limits.max_megapixels,
        gt=0,
        le=256,
        description="largest picture in megapixels (2^20), as stored and as shown",
    )
    max_frames: int = Field(
        default=Limits.max_frames, ge=1, description="most pictures that footage may hold, or claim to hold"
    )
    max_hours: float = Field(
        default=Limits.max_hours, gt=0, le=100_000, description="longest time from the first to the last picture, hours"
    )
    max_packets: int = Field(
        default=Limits.max_packets, ge=1, description="most packets of pictures, sound and all else together"
    )
    max_decoding_mib: int = Field(
        default=Limits.max_decoding_mib,
        ge=16,
        description="most memory for decoded pictures in MiB: 24 of the first one's size",
    )
    open_s: float = Field(
        default=Limits.open_s,
        gt=0,
        le=86_400,
        description="seconds that looking through a file may take, and as much again for each GiB of it",
    )

    @property
    def limits(self) -> Limits:
        """The same for `faceline.video.open_footage`."""
        return Limits(**self.model_dump())


class ArchiveOptions(Options):
    """Which files of a folder count as footage."""

    extensions: tuple[str, ...] = Field(
        default=VIDEO_EXTENSIONS, description="extensions that are taken for video, in lower case, without the dot"
    )
    sniff: bool = Field(
        default=True, description="also take files of other names whose first bytes are those of a video container"
    )
    hidden: bool = Field(default=False, description="also take files and folders whose names begin with a dot")
    include: tuple[str, ...] = Field(
        default=(),
        description="shell patterns (* ? [a-z]) of which a file has to fit one, by its path below the folder, or by "
        "its name where the pattern has no slash; none: every file",
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="shell patterns of files and folders to leave out; they go before include"
    )
    quiet_s: float = Field(
        default=10.0,
        ge=0,
        le=86_400,
        description="seconds for which a file must not have been written to; one that is still being written is left "
        "for the next run",
    )
    time_limit_s: float | None = Field(
        default=86_400.0,
        gt=0,
        description="most seconds that one footage may take; one that takes longer is quarantined; null: no limit",
    )
    open_mib: int = Field(
        default=4096,
        ge=512,
        le=1_048_576,
        description="address space in MiB that opening one footage may take in its process; footage that takes more is "
        "quarantined",
    )
    retry: bool = Field(
        default=False, description="try quarantined footage again, though neither it nor the configuration changed"
    )
    rehash: bool = Field(
        default=False, description="read every file again instead of trusting sizes, times and inodes to tell a change"
    )
    keep_nights: int = Field(
        default=60, ge=1, le=100_000, description="runs whose journals and pages are kept; older ones are removed"
    )
    webhook: str | None = Field(
        default=None,
        description="address (http or https) that is sent a short JSON summary after each run; null: FACELINE_WEBHOOK, "
        "else nobody is told",
    )

    @field_validator("webhook")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None:
            from faceline.nightly.notification import check_address

            check_address(value)
        return value


class ScheduleOptions(Options):
    """When `serve` runs the archive, and what it offers meanwhile; nothing here may change a result."""

    cron: str | None = Field(
        default=NIGHTLY,
        description="when: minute, hour, day of the month, month, day of the week; null: only by hand, in the UI",
    )
    timezone: str | None = Field(
        default=None, description="time zone of these times by its IANA name (Europe/Berlin); null: this machine's"
    )
    catch_up: bool = Field(
        default=True,
        description="run once if a time of the schedule has passed without a whole run since: at the start at once, "
        "later at most once a day",
    )
    concurrency: int = Field(
        default=1,
        ge=1,
        le=64,
        description="runs at the same time, of the archive (never two) and of single footages together",
    )
    port: int = Field(
        default=4200,
        ge=0,
        le=65535,
        description="port, on loopback, of the Prefect server that serve starts where none is named; 0: any",
    )
    reports_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="port, on loopback, where serve offers the results folder for reading; 0: any; null: it does not",
    )

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        # What everybody has is not looked at each time: the parser takes a twentieth of a second to load.
        if value not in (None, NIGHTLY):
            check_cron(str(value))
        return value

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str | None) -> str | None:
        if value is not None:
            check_zone(value)
        return value


SECTIONS: dict[str, type[Options]] = {
    "models": ModelOptions,
    "runtime": RuntimeOptions,
    "runner": RunnerOptions,
    "store": StoreOptions,
    "require": RequireOptions,
    "custody": CustodyOptions,
    "limits": LimitOptions,
    "archive": ArchiveOptions,
    "schedule": ScheduleOptions,
}
"""Sections of the configuration that are not a stage's, by name."""

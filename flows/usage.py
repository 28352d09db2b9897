"""Help texts. Plain constants, so that help costs no imports."""

from __future__ import annotations

from dataclasses import dataclass

LIMIT = "An event is atypical for this person in this footage: a lead for a human, and no more."

CODES = """\
exit codes
  0  done
  1  failed; standard error says in one line what, where and the cure
  2  wrong use: an unknown verb or option, or a value that is not allowed
  3  done, but some footage was set aside (archive)
130  interrupted; what was finished is kept, and the same command goes on from there"""

OPTIONS = """\
the main options (all of them: `faceline config`; each is explained in conf/config.yaml)
  footage=FILE                 the video; taken literally, whatever characters its name holds
  output=DIR                   results folder                              [results/<footage name>]
  config=FILE                  options from a YAML file; the command line comes after it
  preset=usual|micro           options that belong together: micro is for expressions of 0.04 to 0.5 s, at the
                               footage's own frame rate; what else is said on the command line comes after it
  sample.fps=10                sampled frames per second; native: every frame
  rerun=STAGE                  compute a stage and all that follows from it anew
  until=STAGE                  go no further than this stage; no results folder is made
  require.native_fps=25        refuse footage of a lower frame rate            [0; preset=micro: 25]
  embedder=auto|vggface2|dlib  network that tells persons apart            [auto]
  gridsearch=default|small|wide|micro   how much is searched; space in conf/gridsearch/
  anomaly=iforest,lof          models of the grid search; anomaly.window_s=0.5,2 and the like replace its axes
  report.top_events=10         moments with a card of their own in the report
  sample.segment_s=75          most seconds of the pieces in which footage is worked on
  runtime.workers=2            stages at the same time; runtime.threads, runtime.batch_size
  runtime.device=cuda          networks on the GPU; auto: where there is one   [cpu]
  store.root=DIR|s3://BUCKET/PREFIX   where artifacts are kept             [artifacts]
  models.blendshapes=auto|face_landmarker|none  scores of MediaPipe's 52 blendshapes  [auto]
  models.folder=DIR            downloaded weights                          [FACELINE_MODELS]
  custody.sign_key=FILE        sign run.json with this Ed25519 key         [not signed]"""

ENVIRONMENT = """\
environment
  FACELINE_MODELS   folder of downloaded weights
  FACELINE_CACHE    folder for copies of a remote store's payloads; FACELINE_CACHE_GIB of them at most   [8]
  AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE   for store.root=s3://BUCKET/PREFIX
  FACELINE_STATE    folder for the history of Prefect servers that faceline starts
  FACELINE_WEBHOOK  address that is told of each run over an archive; as archive.webhook, but for one that is secret
  PREFECT_API_URL   Prefect server to report to; without it a temporary one is started when there is work to do"""


@dataclass(frozen=True)
class Verb:
    """A verb in the help.

    Attributes:
        line: what it does, in a few words.
        text: how it is used.
    """

    line: str
    text: str


VERBS: dict[str, Verb] = {
    "analyze": Verb(
        "one footage, from the file to the results folder",
        """\
faceline analyze footage=FILE [option=value …]

Finds the faces, tells the persons apart, searches each person's own usual expression for departures, and writes the
results folder. Whatever was computed before and is still valid is taken from the store.

  faceline analyze footage=clip.mp4
  faceline analyze footage=clip.mp4 sample.fps=10 output=results/first
  faceline analyze footage=clip.mp4 preset=micro
  faceline analyze footage="two words, and a comma.mp4" embedder=dlib
  faceline analyze footage=clip.mp4 anomaly=lof anomaly.window_s=0.25,0.5,1""",
    ),
    "archive": Verb(
        "every video below a folder; broken ones are set aside and listed",
        """\
faceline archive footage=DIR [output=DIR] [option=value …]

Analyses every video below a folder, each into its own results folder below output (default: results/), named as in
the archive. Footage is known by its content: a rerun works on what is new or changed and on nothing else, copies are
analysed once, moved files keep what they have. A file that cannot be read is quarantined with the reason until it, or
the configuration, changes; it does not stop the others. What the night brought is on archive.html in output.

  faceline archive footage=/archive output=/results sample.fps=5
  faceline archive footage=/archive archive.extensions=[mp4,mkv] archive.sniff=false
  faceline archive footage=/archive "archive.exclude=[tmp,*.bak.mp4]" archive.time_limit_s=3600
  faceline archive footage=/archive archive.retry=true     quarantined files are tried again""",
    ),
    "plan": Verb(
        "what analyze would do, stage by stage, and why; runs nothing",
        """\
faceline plan footage=FILE [option=value …]

Says of each stage whether it is cached, has to run (and which part of its key differs), or depends on what a stage
before it gives. Takes the same options as analyze.

  faceline plan footage=clip.mp4 sample.fps=5
  faceline plan footage=/archive                    what archive would do, with estimated times""",
    ),
    "serve": Verb(
        "an archive by schedule, with the Prefect UI, until it is told to end",
        """\
faceline serve footage=DIR [output=DIR] [option=value …]

Runs `archive` with these options whenever the schedule is due; takes every option that archive takes, and checks all
of them at the start. Uses the Prefect server that PREFECT_API_URL names, or starts one of its own with its UI on
loopback. A run that was missed is made up for at the start. Ctrl-C ends it, and a run under way in order.

  faceline serve footage=/archive output=/results                 every night at two
  faceline serve footage=/archive schedule.cron="30 1 * * mon-fri" schedule.timezone=Europe/Berlin
  faceline serve footage=/archive schedule=weekly schedule.catch_up=false
  faceline serve footage=/archive schedule=by_hand                runs begin in the UI
  faceline serve footage=/archive schedule.port=4300 schedule.reports_port=4301
  faceline serve footage=/archive archive.webhook=https://example.org/hook""",
    ),
    "sweep": Verb(
        "many combinations of options, compared in one table",
        """\
faceline sweep footage=FILE option=value,value … [option=value …]

Runs every combination of the values, in Hydra's override grammar (a,b,c  choice(…)  range(…)  glob(…)), and prints a
leaderboard. Combinations that differ in anomaly options alone share everything before. An interrupted sweep goes on
where it stopped. Trials are ranked within each combination. The table is also written as sweep.csv into output
(default: results/<footage name>-sweep).

  faceline sweep footage=clip.mp4 anomaly=iforest,lof anomaly.window_s=0.25,0.5,1
  faceline sweep footage=clip.mp4 sample.fps=5,10 anomaly.features=expressions,all""",
    ),
    "verify": Verb(
        "check a results folder from the footage to the rows; or rehash every stored artifact",
        """\
faceline verify RESULTS [footage=FILE] [event=RANK [frame=FILE.png]] [public_key=FILE] [sha256=HEX] [store.root=DIR]

Checks a results folder, each link in a line: every file against run.json, every key and digest of the stages, every
input against the stage that gave it, the footage against its digest, pictures and rows against each other. Needs the
folder alone; what cannot be checked here (--) is said, and is no failure.

  footage=FILE      the source, where it no longer lies where run.json says
  event=RANK        then show where an event of events.csv comes from: file, digest, timecode, frame, row
  frame=FILE.png    with event=: write that frame of the footage, the face marked
  public_key=FILE   who must have signed run.json (custody.sign_key of analyze)
  sha256=HEX        the digest of run.json as it was noted when the run ended
  store.root=DIR    also rehash the artifacts, and compare the pictures with the crops among them

faceline verify [repair=false] [store.root=DIR]

Reads every artifact of the store and compares digests. Damaged ones are set aside (nothing is deleted), so that the
next run computes them anew; with repair=false they are only named.

Exit code 1 when something does not hold, or damage was found.""",
    ),
    "gc": Verb(
        "what of the store nothing needs any more; apply=true removes it",
        """\
faceline gc [apply=true] [older_than=1d] [max_size=50GB] [keep=DIR …] [forget=PATH|SHA256 …] [forget_after=365d]
            [list=true] [all=true] [idle=true] [damaged_after=30d] [logs_after=90d] [store.root=DIR]

Lists by stage what is kept (what each footage was last run with, what is pinned, what a living run may use, what was
used within older_than) and what nothing reaches; changes nothing without apply=true. max_size: remove, the oldest use
first, only until the store is that small; what is reached always stays. keep: folders of results whose artifacts are
kept, too. forget: footage, by path or SHA-256, whose artifacts are no longer current; forget_after: the same for
footage unused for so long. Leftovers of dead processes, damaged artifacts set aside (damaged_after), and logs
(logs_after) go as well. all: even if nothing in the store is current, pinned or named. idle: even if nothing has used
the store for 90 days (or forget_after) by the clock, which may be wrong. Exit code 1 if max_size was not reached,
something could not be removed, or runs on an object store kept anything from being removed.""",
    ),
    "pin": Verb(
        "keep a result's artifacts; alone: list what is kept",
        """\
faceline pin results/NAME [name=NAME] [store.root=DIR]
faceline pin

Keeps everything that a result was made of until `faceline unpin NAME`. Alone it lists the pins. Exit code 1 when some
of the artifacts are gone already; they are named.""",
    ),
    "unpin": Verb(
        "let go of what a pin keeps",
        """\
faceline unpin NAME [store.root=DIR]

Removes a pin; its artifacts go with the next `faceline gc apply=true` if nothing else reaches them.""",
    ),
    "models": Verb(
        "which weights are here; `models fetch NAME` downloads some",
        """\
faceline models                 which weights are known, and which of them are here
faceline models fetch NAME      download weights into the model folder (the only command that fetches any)

Both take models.folder=DIR.""",
    ),
    "config": Verb(
        "the composed and checked configuration, as YAML",
        """\
faceline config [option=value …]

Prints the configuration that the same arguments would give to analyze, after all checks; options that differ from
their defaults are marked.""",
    ),
}


ARCHIVE_OPTIONS = """\
options of an archive (conf/config.yaml explains each, and the others)
  archive.extensions=[mp4,mkv]  what counts as footage; archive.sniff=false: by the name alone
  archive.include=[…], archive.exclude=[…]  patterns of paths to take, or to pass over
  archive.quiet_s=10            a file written to within this time is left for later
  archive.time_limit_s=86400    most seconds for one footage
  archive.retry=true            try quarantined files again; archive.rehash=true: read all files anew
  archive.keep_nights=60        nights whose journals and pages are kept
  archive.webhook=URL           told of each run"""

SCHEDULE_OPTIONS = """\
options of the schedule (conf/schedule/ explains each)
  schedule=nightly|weekly|by_hand   when; schedule.cron="0 2 * * *", schedule.timezone=Europe/Berlin
  schedule.catch_up=true        begin a run for nights that were missed
  schedule.concurrency=1        runs at the same time
  schedule.port=4200            of the Prefect server; schedule.reports_port=4201: offer the results for reading"""


def _of_folder(options: str) -> str:
    """The main options, as they are for a folder of footage."""
    lines = [line for line in options.splitlines() if not line.lstrip().startswith("until=")]
    text = "\n".join(lines)
    text = text.replace("footage=FILE                 the video;", "footage=DIR                  the folder;")
    return text.replace("[results/<footage name>]", "[results]")


def overview() -> str:
    """The text of ``faceline --help``."""
    width = max(map(len, VERBS)) + 2
    verbs = "\n".join(f"  {name:<{width}}{verb.line}" for name, verb in VERBS.items())
    return "\n\n".join(
        (
            "faceline finds the moments in footage when a face departs from that person's own usual expression.\n"
            + LIMIT,
            "usage: faceline VERB [option=value …]      faceline VERB --help      faceline --version",
            f"verbs\n{verbs}",
            "examples\n"
            "  faceline analyze footage=interview.mp4\n"
            "  faceline plan footage=interview.mp4 sample.fps=5\n"
            "  faceline sweep footage=interview.mp4 anomaly=iforest,lof anomaly.window_s=0.25,0.5,1",
            OPTIONS,
            ENVIRONMENT,
            CODES,
        )
    )


def of_verb(name: str) -> str:
    """The text of ``faceline VERB --help``."""
    parts = [VERBS[name].text]
    if name in ("archive", "serve"):
        parts += [_of_folder(OPTIONS), ARCHIVE_OPTIONS]
    elif name in ("analyze", "plan", "sweep", "config"):
        parts.append(OPTIONS)
    if name == "serve":
        parts.append(SCHEDULE_OPTIONS)
    parts.append(CODES)
    return "\n\n".join(parts)

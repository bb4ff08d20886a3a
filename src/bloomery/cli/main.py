"""The `bloomery` command: verbs are loaded when they are asked for, and mistakes end in one line.

Exit codes: 0 done, 2 a mistake or a limit of the machine (one line with a hint on stderr), 130 interrupted, 1 a bug
(with its traceback). This module does not know what a verb does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from bloomery import __version__
from bloomery.core.errors import BloomeryError

_VERBS = {
    "demo": "Real text to a trained, measured, served model, in minutes.",
    "run": "Run a recipe: only what has changed, like make.",
    "curate": "Documents in, a corpus out: deduplicated, split, decontaminated.",
    "tokenize": "Train a tokenizer on a corpus and turn the corpus into tokens.",
    "audit": "What tokenizers cost whom: tokens by language and script, and the premium over English.",
    "plan": "What a model for this corpus and budget would be, take and reach.",
    "pretrain": "Train a model from random weights within a budget.",
    "train": "Train for any objective: blanks, spans, translations, classes, tags; or go on with a model.",
    "sweep": "Try out a recipe's dials; hopeless trials are stopped, every joule is counted.",
    "adapt": "Tune a model on examples: LoRA, QLoRA, DoRA, or all weights; merge an adapter.",
    "compare": "Prompt, retrieve, fine-tune or a classic model? One task, one locked test, a verdict.",
    "import": "Take in open weights: a Hugging Face folder, GGUF file or hub id becomes a model here.",
    "export": "Write a model as a folder or GGUF file that others read.",
    "evaluate": "Put a model to tasks: scores with intervals, and what they cost.",
    "generate": "Complete a prompt.",
    "translate": "Texts for texts, by a model that was trained on pairs.",
    "chat": "Talk with a model.",
    "serve": "Serve a model over OpenAI's HTTP routes.",
    "keys": "API keys for the server: make one, or say which there are.",
    "index": "Documents into an index, searched by words and by meaning.",
    "ask": "A question to an index, answered with citations.",
    "requests": "What the server was asked: list, search, show, judge, export.",
    "annotate": "Labels by rules, models and people; texts by models; agreement and cost.",
    "prompt": "Prompts as versioned files: see, try, make better.",
    "inspect": "Look into a model: attention, tokens, layers, embeddings; and into batches and sources.",
    "runs": "What was done, what came out of it, and whether it is sound.",
    "energy": "Joules, carbon and cost of everything done so far.",
    "doctor": "What this machine has, and what is in the way.",
}
_TARGETS = {
    "run": "recipe_run:run",
    "adapt": "adapt:app",
    "annotate": "annotate:app",
    "index": "index:app",
    "inspect": "inspect:app",
    "prompt": "prompt:app",
    "runs": "runs:app",
    "requests": "requests:app",
    "import": "import_model:import_",
}
_EPILOGUE = "A mistake ends with one line and exit code 2. Interrupt any work with Ctrl-C: the same command goes on."

INTERRUPTED = 130
MISTAKE = 2


def verbs() -> tuple[str, ...]:
    """The names of all verbs, in the order of the work."""
    return tuple(_VERBS)


def build_app() -> App:
    """The command with its verbs, none of them imported yet."""
    app = App(
        name="bloomery",
        version=__version__,
        help="Raw text in, a language model that you own out, every joule on the way written down.",
        help_epilogue=_EPILOGUE,
        help_flags=["--help", "-h"],
        help_format="plaintext",
        suppress_keyboard_interrupt=False,  # `main` says what to do
    )
    for place, (verb, summary) in enumerate(_VERBS.items()):
        target = _TARGETS.get(verb, f"{verb}:{verb}")
        app.command(f"bloomery.cli.{target}", name=verb, help=summary, sort_key=place)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. `sys.argv` when no arguments are given."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None and "RANK" in os.environ and (ended := _as_a_rank(tokens)) is not None:
        return ended
    return _command(tokens)


def _as_a_rank(tokens: Sequence[str]) -> int | None:
    """Under torchrun rank 0 runs the command and the other ranks take part in its training; None without torchrun."""
    from bloomery.training.parallel.launch import is_follower, launched

    try:
        if launched() is None:
            return None
    except BloomeryError as error:
        return _say(error.message, hint=error.hint)
    if is_follower():
        from bloomery.training.follower import follow

        return follow()
    code = _command(tokens)
    if not code:
        from bloomery.training.parallel.world import close_world

        close_world()
    return code


def _command(tokens: Sequence[str]) -> int:
    try:
        build_app()(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        return _say(" ".join(str(error).split()), hint=_help_for(tokens))
    except BloomeryError as error:
        return _say(error.message, hint=error.hint)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; keep Python from complaining when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MISTAKE
    except OSError as error:
        from bloomery.core.artifact import as_artifact_error

        wrapped = as_artifact_error(error, "stopped")
        return _say(wrapped.message, hint=wrapped.hint)
    except MemoryError:
        return _say("out of memory", hint="a smaller model or batch: --set pretrain.micro_rows=4")
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        return _say("out of memory on the device", hint="a smaller model or batch: --set pretrain.micro_rows=4")
    except UnicodeError as error:
        line = _encoding_line(error)
        if line is None:
            raise
        return _say(line, hint="set PYTHONUTF8=1 where the terminal shows UTF-8")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else MISTAKE
    return 0


def _say(message: str, *, hint: str) -> int:
    print(f"error: {BloomeryError(message, hint=hint).one_line()}", file=sys.stderr)
    return MISTAKE


def _encoding_line(error: UnicodeError) -> str | None:
    """What to say of a character that the terminal's encoding lacks; None if the error is a bug of ours."""
    ours = (sys.stdout.encoding or "").lower()
    if not isinstance(error, UnicodeEncodeError) or ours in ("", "utf-8") or error.encoding.lower() != ours:
        return None
    return f"stdout is {ours}, which has no {error.object[error.start]!a}"


def _help_for(tokens: Sequence[str]) -> str:
    """How to ask for the help of the verb that was called, or of its own verb."""
    app, words = build_app(), ["bloomery"]
    for token in tokens[:2]:
        if token.startswith("-") or token not in app:
            break
        app = app[token]
        words.append(token)
    return " ".join([*words, "--help"])


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()

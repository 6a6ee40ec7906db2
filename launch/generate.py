"""Text from a language model on this machine, by any decoding rule.

    python -m launch.generate "The capital of France is"
    python -m launch.generate --rule contrastive --set k=5 alpha=0.6 "Once upon a time"
    python -m launch.generate --compare greedy top_p contrastive "Once upon a time"
    python -m launch.generate --model path/to/folder --tokens 100 "PROMPT"

The model is SmolLM2-135M, which a package brings along, or a folder in Hugging Face
layout or a GGUF file. Rules and what `--set` changes of them:

    greedy
    sample        temperature=1.0
    top_k         k=50 temperature=1.0
    top_p         p=0.95 temperature=1.0
    min_p         p=0.1 temperature=1.0
    beam          width=4 length_penalty=1.0  beam search; shown when it is done
    contrastive   k=5 alpha=0.6               contrastive search
    layers        alpha=0.1 lowest=0.5        DoLa; lower layers from that share of all
    amateur       alpha=0.1 weight=1.0        contrastive decoding against --amateur
    context       alpha=1.0                   context-aware (CAD), against --without
    constrained   alpha=1.0 ratio=4.0         COIECD, against --without
    adacad        min_alpha=0.0 base=2.718    AdaCAD, against --without; base 2: bits
    lol           lam=1.0 gamma=0.5 alpha=0.1 lowest=0.5    LOL, against --false (the
                  prompt so that the model lies), towards --truthful (so that it does
                  not); lower layers as for layers

Exit codes: 0 done, 2 wrong input (one line says what).
"""

import argparse
import ast
import math
import sys
from typing import Any

WRONG_INPUT = 2

SETTINGS: dict[str, dict[str, float]] = {
    "greedy": {},
    "sample": {"temperature": 1.0},
    "top_k": {"k": 50, "temperature": 1.0},
    "top_p": {"p": 0.95, "temperature": 1.0},
    "min_p": {"p": 0.1, "temperature": 1.0},
    "beam": {"width": 4, "length_penalty": 1.0},
    "contrastive": {"k": 5, "alpha": 0.6},
    "layers": {"alpha": 0.1, "lowest": 0.5},
    "amateur": {"alpha": 0.1, "weight": 1.0},
    "context": {"alpha": 1.0},
    "constrained": {"alpha": 1.0, "ratio": 4.0},
    "adacad": {"min_alpha": 0.0, "base": math.e},
    "lol": {"lam": 1.0, "gamma": 0.5, "alpha": 0.1, "lowest": 0.5},
}
DRAWN = ("sample", "top_k", "top_p", "min_p")


class WrongInput(Exception):
    """Something the user can mend; one line says what and how."""


def parse_args(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prompt", nargs="?", metavar="PROMPT")
    parser.add_argument("--model", default="smollm2", help="smollm2, folder or .gguf")
    parser.add_argument("--rule", default="greedy", choices=SETTINGS)
    parser.add_argument("--compare", nargs="+", metavar="RULE")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    parser.add_argument("--tokens", type=int, default=64, help="most new tokens")
    parser.add_argument("--seed", type=int, default=0, help="of rules that draw")
    parser.add_argument("--amateur", help="a weaker model with the same tokens")
    parser.add_argument("--without", help="the prompt without its context")
    parser.add_argument("--false", help="the prompt, asking for what is false")
    parser.add_argument("--truthful", help="the prompt, asking for what is true")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    args = parser.parse_args(argv)
    # What stands behind the values of an option was taken for one of them.
    if args.prompt is None and args.set and "=" not in args.set[-1]:
        args.prompt = args.set.pop()
    if args.prompt is None and args.compare and args.compare[-1] not in SETTINGS:
        args.prompt = args.compare.pop()
    if args.prompt is None:
        parser.error("the following arguments are required: PROMPT")
    for rule in args.compare or []:
        if rule not in SETTINGS:
            parser.error(f"--compare {rule}: expected some of {', '.join(SETTINGS)}")
    return args


def settings(rule: str, changes: list[str], alone: bool) -> dict[str, Any]:
    """The settings of a rule, changed by NAME=VALUE.

    Raises:
      WrongInput: a name that the rule has not (where it is the only one), or a value
        that is no number.
    """
    found: dict[str, Any] = dict(SETTINGS[rule])
    for change in changes:
        name, equals, text = change.partition("=")
        if name not in found:
            if not alone:
                continue
            known = ", ".join(found) or "no settings"
            raise WrongInput(f"--set {change}: rule {rule} has {known}")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = None
        if not equals or isinstance(value, bool) or not isinstance(value, int | float):
            raise WrongInput(f"--set {change}: expected {name}=NUMBER")
        if isinstance(found[name], int) and not isinstance(value, int):
            raise WrongInput(f"--set {change}: expected a whole number")
        found[name] = type(found[name])(value)
    return found


def load(name: str, dtype: str) -> Any:
    """A model by the name of a package or by its path."""
    from contrastive_jax.data import packaged
    from contrastive_jax.tasks import language_models

    try:
        return language_models.load_path(name, dtype)
    except (ValueError, packaged.DataMissing) as e:
        raise WrongInput(f"--model {name}: {e}") from e


def encode(language: Any, name: str, text: str, new: int) -> Any:
    """A prompt as tokens, which must leave room for the new ones."""
    ids, longest = language.encode(text), language.model.max_length
    if len(ids) == 0:
        raise WrongInput(f"{name}: expected a token or more, got an empty text")
    if len(ids) + new > longest:
        raise WrongInput(
            f"{name}: {len(ids)} tokens and {new} new ones are more than the model's "
            f"{longest}"
        )
    return ids


def decode(args: argparse.Namespace, rule: str, language: Any, watch: Any) -> Any:
    """Decodes by one rule; compiles first."""
    import jax
    import jax.numpy as jnp

    from contrastive_jax import decoding
    from contrastive_jax.methods import adacad, lol
    from contrastive_jax.models import decoding as reading

    values = settings(rule, args.set, args.compare is None)
    model, variables, new = language.model, language.variables, args.tokens
    ids = encode(language, "PROMPT", args.prompt, new)
    prompt = reading.pad_left([ids])
    slots = len(ids) + new
    loop = dict(max_new=new, stop=language.stop, watch=watch)

    if rule == "contrastive":

        def search(variables):
            read = reading.read_prompt(model, variables, prompt, slots)
            reader = reading.make_reader(model, variables)
            return decoding.contrastive_search(
                reader, read.cache, read.hidden, prompt, **values, **loop
            )

        return jax.jit(search)(variables)

    if rule == "beam":
        del loop["watch"]  # which beam is the best is known at the end

        def beams(variables):
            read = reading.read_prompt(model, variables, prompt, slots)
            return decoding.beam_search(
                reading.make_step(model, variables),
                read.cache,
                read.out,
                prompt,
                choose=lambda out, text: out.logits,
                **values,
                **loop,
            )

        result = jax.jit(beams)(variables)
        for token in result.tokens[0, 0, : int(result.lengths[0, 0])]:
            watch(token[None])
        return result

    layers: tuple[int, ...] = ()
    if rule in ("layers", "lol"):
        lowest = values.pop("lowest")
        if not 0 <= lowest < 1:
            raise WrongInput(f"--set lowest={lowest}: expected a number in [0, 1)")
        # Every other block, from that share of them on.
        layers = tuple(range(max(int(lowest * model.depth), 1), model.depth, 2))
    second = None
    if rule == "amateur":
        if args.amateur is None:
            raise WrongInput("--amateur: rule amateur needs a weaker model")
        other = load(args.amateur, args.dtype)
        if other.model.vocab_size != model.vocab_size:
            raise WrongInput(
                f"--amateur: expected a vocabulary of {model.vocab_size} tokens, got "
                f"{other.model.vocab_size}"
            )
        second = other.model, other.variables, ids
    if rule in ("context", "constrained", "adacad"):
        if args.without is None:
            raise WrongInput(f"--without: rule {rule} needs the prompt without context")
        second = model, variables, encode(language, "--without", args.without, new)
    truthful = None
    if rule == "lol":
        for name in ("false", "truthful"):
            if getattr(args, name) is None:
                raise WrongInput(f"--{name}: rule lol needs the prompt in that form")
        second = model, variables, encode(language, "--false", args.false, new)
        truthful = encode(language, "--truthful", args.truthful, new)

    def rules(out, text):
        if rule == "greedy":
            return out.logits
        if rule == "layers":
            return decoding.layer_contrast(out.logits, out.early, **values)
        if rule == "lol":
            own, (false, true) = out
            early = own.early, false.early
            return lol.lol_dynamic_scores(
                own.logits, false.logits, *early, true.logits, **values
            )
        if second is not None:
            rule_of_two = {
                "adacad": adacad.adacad_logits,
                "amateur": decoding.contrast,
                "context": decoding.context_aware,
                "constrained": decoding.entropy_constrained,
            }[rule]
            return rule_of_two(out[0].logits, out[1].logits, **values)
        rest = {k: v for k, v in values.items() if k != "temperature"}
        scores = decoding.temperature(out.logits, values["temperature"])
        return getattr(decoding, rule)(scores, **rest) if rest else scores

    def stream(model, variables, ids, layers):
        """A step, its state and what is said after a prompt."""
        text, room = reading.pad_left([ids]), len(ids) + new
        read = reading.read_prompt(model, variables, text, room, layers=layers)
        step = reading.make_step(model, variables, layers=layers)
        return step, read.cache, read.out

    def run(variables, extra):
        read = reading.read_prompt(model, variables, prompt, slots, layers=layers)
        step = reading.make_step(model, variables, layers=layers)
        state, out = read.cache, read.out
        if second is not None:
            other, *pair = stream(second[0], extra, second[2], layers)
            if truthful is not None:
                third, *more = stream(model, variables, truthful, ())
                other = decoding.two_streams(other, third)
                pair = list(zip(pair, more, strict=True))
            step = decoding.two_streams(step, other)
            state, out = (state, pair[0]), (out, pair[1])
        keys = jax.random.split(jax.random.key(args.seed), 1) if rule in DRAWN else None
        return decoding.generate(
            step, state, out, prompt, choose=rules, keys=keys, **loop
        )

    extra = jnp.zeros(()) if second is None else second[1]
    return jax.jit(run)(variables, extra)


class Stream:
    """Prints a text while its tokens arrive.

    Args:
      language: whose tokens they are.
    """

    def __init__(self, language: Any):
        self.language, self.ids, self.shown = language, [], 0

    def __call__(self, token: Any) -> None:
        """One more token; half a character waits for the rest."""
        self.ids.append(int(token[0]))
        text = self.language.decode(self.ids)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):
            print(text[self.shown :], end="", flush=True)
            self.shown = len(text)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    try:
        if args.tokens < 1:
            raise WrongInput(f"--tokens: expected at least 1, got {args.tokens}")
        rules = args.compare or [args.rule]
        for rule in rules:  # before anything is loaded
            settings(rule, args.set, args.compare is None)
        language = load(args.model, args.dtype)
        for rule in rules:
            if args.compare:
                print(f"--- {rule}")
            print(args.prompt, end="", flush=True)
            decode(args, rule, language, Stream(language)).tokens.block_until_ready()
            print(flush=True)
    except (WrongInput, ValueError) as e:
        print(f"launch.generate: {e}", file=sys.stderr)
        return WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""docs/walkthrough.md: its excerpts are the code's, and its equations hold."""

import ast
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic_kd.settings import ModelConfig
from acoustic_kd.training.ensemble import mean_of
from acoustic_kd.training.losses import distillation_loss, soft_cross_entropy
from acoustic_kd.training.networks import build_network
from acoustic_kd.training.specialists import combine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
EXCERPTS = re.findall(r"<!-- code (\S+) (\S+) -->\n```python\n(.*?)```\n", PAGE, re.DOTALL)


def source_of(file: str, name: str) -> list[str]:
    """The lines of a function, `Class.method` of a class."""
    text = (ROOT / file).read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    for part in name.split("."):
        found = [node for node in body if getattr(node, "name", None) == part]
        assert len(found) == 1, f"{file} has no {name}"
        node, body = found[0], found[0].body
    return text.splitlines()[node.lineno - 1 : node.end_lineno]


def occurs(excerpt: str, lines: list[str]) -> bool:
    """Whether the excerpt is a run of these lines, but for what all of it is indented by."""
    wanted = textwrap.dedent(excerpt).splitlines()
    runs = (lines[n : n + len(wanted)] for n in range(len(lines) - len(wanted) + 1))
    return any(textwrap.dedent("\n".join(run)).splitlines() == wanted for run in runs)


@pytest.mark.parametrize(
    ("file", "name", "excerpt"), EXCERPTS, ids=[f"{n}-{e[1]}" for n, e in enumerate(EXCERPTS)]
)
def test_an_excerpt_stands_in_the_function_that_it_names(file, name, excerpt):
    assert occurs(excerpt, source_of(file, name)), f"{name} of {file} has changed; quote it anew"


def test_every_excerpt_says_where_it_is_from():
    assert len(EXCERPTS) == PAGE.count("```python") > 20
    assert len(EXCERPTS) == PAGE.count("<!-- code ")


def test_a_changed_line_is_noticed():
    lines = source_of("acoustic_kd/training/losses.py", "soft_cross_entropy")
    first = "log_q = F.log_softmax(logits / temperature, dim=-1)\n"
    assert occurs(first, lines) and occurs("    " + first, lines)
    assert not occurs(first.replace("temperature", "1"), lines)
    assert not occurs(first + "return log_q\n", lines)


# --- equations ----------------------------------------------------------------------------------

K = 7
DRAW = np.random.default_rng(0)
Z, V = DRAW.normal(0, 3, (2, K))
HARD = 4


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def cross_entropy(p, q):
    return -(p * np.log(q)).sum()


def slope(temperature, z, v):
    """∂C/∂z by autograd through the package's loss, whose factor T² is taken out again."""
    logits = torch.tensor(z)[None].requires_grad_()
    p = torch.tensor(softmax(v / temperature))[None]
    loss = soft_cross_entropy(logits, p, temperature).sum() / temperature**2
    return torch.autograd.grad(loss, logits)[0][0].numpy()


def whole_loss(temperature, weight):
    p, hard = torch.tensor(softmax(V / temperature))[None], torch.tensor([HARD])
    return distillation_loss(torch.tensor(Z)[None], p, hard, temperature, weight).item()


def equation_1():
    found = mean_of([torch.tensor(Z)[None]], 3.0)[0].numpy()
    return found, np.exp(Z / 3) / sum(np.exp(z / 3) for z in Z), 1e-12


def objective():
    soft = cross_entropy(softmax(V / 3), softmax(Z / 3))
    hard = -np.log(softmax(Z)[HARD])
    return whole_loss(3.0, 0.5), 3**2 * soft + 0.5 * hard, 1e-12


def equation_2():
    return slope(3.0, Z, V), (softmax(Z / 3) - softmax(V / 3)) / 3, 1e-12


def equation_3():
    t = 1e3
    z, v = (1 + Z / t) / (K + sum(Z / t)), (1 + V / t) / (K + sum(V / t))
    return slope(t, Z, V), 1 / t * (z - v), 0.02


def equation_4():
    t, z, v = 1e3, Z - Z.mean(), V - V.mean()
    return slope(t, z, v), (z - v) / (K * t**2), 0.02


def equation_5():
    """With one specialist, of classes 1 and 3, the minimum is known: half of both masses."""
    p_g, p_m, own = softmax(Z), softmax(V[:3]), [1, 3]
    opinion = torch.tensor([0]), torch.tensor(own), torch.tensor(p_m)[None]
    found = combine(torch.tensor(p_g)[None], [opinion])[0].numpy()
    expected = np.delete(p_g, own) / np.delete(p_g, own).sum()
    expected *= (1 - p_g[own].sum() + p_m[2]) / 2
    return found, np.insert(expected, [1, 2], (p_g[own] + p_m[:2]) / 2), 1e-6


EQUATIONS = {
    "q_i = exp(z_i / T) / Σ_j exp(z_j / T)": equation_1,
    "L = T² · CE(p, q(T)) + α · CE(hard, q(1))": objective,
    "∂C/∂z_i = (q_i − p_i) / T": equation_2,
    "∂C/∂z_i ≈ 1/T · ((1 + z_i/T) / (K + Σ_j z_j/T) − (1 + v_i/T) / (K + Σ_j v_j/T))": equation_3,
    "∂C/∂z_i ≈ (z_i − v_i) / (K T²)": equation_4,
    "minimise over q: KL(p_g, q) + Σ_m KL(p_m, q)": equation_5,
}


@pytest.mark.parametrize("equation", EQUATIONS, ids=[f.__name__ for f in EQUATIONS.values()])
def test_an_equation_holds(equation):
    assert f"```\n{equation}\n```" in PAGE
    found, expected, tolerance = EQUATIONS[equation]()
    np.testing.assert_allclose(
        found, expected, rtol=tolerance, atol=tolerance * np.abs(found).max()
    )


def test_every_equation_of_the_page_is_tested():
    assert re.findall(r"^```\n([^\n]+)\n```$", PAGE, re.MULTILINE) == list(EQUATIONS)


def test_the_geometric_mean_is_the_softmax_of_the_mean_logits():
    found = mean_of([torch.tensor(Z)[None], torch.tensor(V)[None]], 3.0, "geometric")[0].numpy()
    mean = np.sqrt(softmax(Z / 3) * softmax(V / 3))
    np.testing.assert_allclose(found, mean / mean.sum(), rtol=1e-12)


def test_the_paper_s_model_has_as_many_weights_as_the_page_says():
    with torch.device("meta"):
        model = build_network(ModelConfig(8, 2560, 0.0, 0.0, 20, 5), 40, 14_000)
    count = sum(p.numel() for p in model.parameters())
    assert f"{count / 1e6:.1f} million" in PAGE

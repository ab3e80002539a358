"""sep_attention against the plain computation under the same mask."""

import pytest

torch = pytest.importorskip("torch")

import sepllm  # noqa: E402
from sepllm.torch import Pattern, _attend, sep_attention  # noqa: E402


def plain(q, k, v, pattern, scale=None):
    """The definition. A row of padding sees nothing, and is 0."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    mask = pattern.visible(q.shape[2])[:, None]
    scores = (q @ k.transpose(2, 3)) * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), -1)
    return torch.where(mask.any(-1, keepdim=True), weights, 0.0) @ v


def operands(batch=2, heads=4, kv_heads=2, tokens=50, dim=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    shapes = [(batch, h, tokens, dim) for h in (heads, kv_heads, kv_heads)]
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def patterns(tokens=50):
    ids = torch.arange(2 * tokens).reshape(2, tokens) * 7 % 11
    yield Pattern.from_mask_rule(ids, [3, 5], init=2, window=6)
    yield Pattern.from_mask_rule(ids, [3], init=1, window=4, lengths=[tokens, tokens - 13])
    yield Pattern.of([tokens, tokens], initial=3, window=5, document_starts=[[0, 20], [0, 7, 31]])
    yield Pattern.of([tokens, tokens])  # causal


def test_the_mask_rule_written_out():
    ids = torch.tensor([[1, 9, 2, 3, 9, 4, 5, 6]])
    seen = Pattern.from_mask_rule(ids, [9], init=1, window=2).visible(8)[0]
    assert seen[7].nonzero().flatten().tolist() == [0, 1, 4, 6, 7]
    assert seen[1].nonzero().flatten().tolist() == [0, 1]


@pytest.mark.parametrize("pattern", list(patterns()))
def test_values_and_gradients(pattern):
    q, k, v = (x.requires_grad_() for x in operands())
    weight = torch.randn(q.shape, generator=torch.Generator().manual_seed(2))
    out = sep_attention(q, k, v, pattern)
    (out * weight).sum().backward()
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    expected = plain(*exact, pattern)
    (expected * weight.double()).sum().backward()
    torch.testing.assert_close(out.double(), expected, atol=2e-6, rtol=1e-5)
    for x, e in zip((q, k, v), exact):
        torch.testing.assert_close(x.grad.double(), e.grad, atol=5e-6, rtol=1e-4)


def test_the_plain_reference_has_right_gradients():
    x = [t.requires_grad_() for t in operands(batch=2, heads=2, kv_heads=1, tokens=7, dim=2, dtype=torch.float64)]
    pattern = Pattern.of([7, 7], initial=1, window=3, kept=[[2], [3, 4]])
    assert torch.autograd.gradcheck(lambda q, k, v: plain(q, k, v, pattern), x)


def test_any_strides():
    pattern = next(iter(patterns()))
    q, k, v = operands()
    expected = sep_attention(q, k, v, pattern)
    tokens_first = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    assert torch.equal(sep_attention(*tokens_first, pattern), expected)
    fused = torch.cat([q, k, v], 1)
    assert torch.equal(sep_attention(fused[:, :4], fused[:, 4:6], fused[:, 6:], pattern), expected)
    last = [x.transpose(2, 3).contiguous().transpose(2, 3) for x in (q, k, v)]
    assert torch.equal(sep_attention(*last, pattern), expected)
    assert torch.equal(sep_attention(q, k, tokens_first[2], pattern), expected)


def test_bf16():
    pattern = next(iter(patterns()))
    x = [t.requires_grad_() for t in operands(dtype=torch.bfloat16)]
    out = sep_attention(*x, pattern)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and x[0].grad.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), plain(*[t.detach().double() for t in x], pattern), atol=2e-2, rtol=2e-2)


def test_registered_as_torch_wants_it():
    pattern = next(iter(patterns()))
    x = [t.requires_grad_() for t in operands()]
    arguments = (*x, pattern.lengths, pattern.kept, pattern.kept_offsets, pattern.document_starts, pattern.document_offsets,
                 pattern.initial, pattern.window, 0.3)
    torch.library.opcheck(_attend, arguments)


def test_compiled():
    pattern = next(iter(patterns()))

    def layer(q, k, v):
        return sep_attention(q * 2, k, v, pattern).sum()

    a = [t.requires_grad_() for t in operands()]
    b = [t.requires_grad_() for t in operands()]
    layer(*a).backward()
    torch.compile(layer, backend="aot_eager", fullgraph=True)(*b).backward()
    for x, y in zip(a, b):
        torch.testing.assert_close(x.grad, y.grad)


def test_wrong_operands_are_refused():
    pattern = next(iter(patterns()))
    q, k, v = operands()
    for wrong in ((q.double(), k, v), (q, k[:, :, :5], v), (q[0], k, v), (q[:1], k[:1], v[:1]), (q[:, :3], k, v)):
        with pytest.raises(sepllm.Error):
            sep_attention(*wrong, pattern)
    with pytest.raises(sepllm.Error, match="kept"):
        sep_attention(q, k, v, Pattern.of([50, 50], window=3, kept=[[5, 3], []]))
    with pytest.raises(sepllm.Error, match="n_tokens"):
        sep_attention(q, k, v, Pattern.of([51, 50], window=3))

"""The equations of HDML as plain loops over tuples, to hold the product to: no vectorised code, nothing imported from it."""

import math

import torch
from torch import Tensor


def npair(a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    """Sohn 2016, equation 7: log(1 + Σ_j exp(a·n_j − a·p)), meaned over anchors."""
    terms = []
    for i in range(len(a)):
        others = [torch.exp(a[i] @ n[i, j] - a[i] @ p[i]) for j in range(n.shape[1])]
        terms.append(torch.log(1 + sum(others)))
    return sum(terms) / len(a)


def triplet(a: Tensor, p: Tensor, n: Tensor, margin: float) -> Tensor:
    """max(0, ‖a − p‖² − ‖a − n_j‖² + margin), meaned over all (i, j)."""
    terms = []
    for i in range(len(a)):
        for j in range(n.shape[1]):
            terms.append(torch.clamp((a[i] - p[i]).pow(2).sum() - (a[i] - n[i, j]).pow(2).sum() + margin, min=0))
    return sum(terms) / len(terms)


def contrastive(a: Tensor, p: Tensor, n: Tensor, pos_margin: float, neg_margin: float) -> Tensor:
    """Mean of max(0, d_ap − m⁺) plus mean of max(0, m⁻ − d_an), of unit vectors."""
    near = [torch.clamp((unit(a[i]) - unit(p[i])).norm() - pos_margin, min=0) for i in range(len(a))]
    far = [torch.clamp(neg_margin - (unit(a[i]) - unit(x)).norm(), min=0) for i in range(len(a)) for x in n[i]]
    return sum(near) / len(near) + sum(far) / len(far)


def margin(a: Tensor, p: Tensor, n: Tensor, margin: float, beta: float) -> Tensor:
    """Wu 2017, equation 4: mean of max(0, d_ap − β + m) plus mean of max(0, β − d_an + m), of unit vectors."""
    near = [torch.clamp((unit(a[i]) - unit(p[i])).norm() - beta + margin, min=0) for i in range(len(a))]
    far = [torch.clamp(beta - (unit(a[i]) - unit(x)).norm() + margin, min=0) for i in range(len(a)) for x in n[i]]
    return sum(near) / len(near) + sum(far) / len(far)


def multi_similarity(a: Tensor, p: Tensor, n: Tensor, alpha: float, beta: float, base: float) -> Tensor:
    """Wang 2019, equation 16, with one positive: log(1 + e^{−α(s_ap − λ)})/α + log(1 + Σ e^{β(s_an − λ)})/β."""
    terms = []
    for i in range(len(a)):
        near = torch.log(1 + torch.exp(-alpha * (unit(a[i]) @ unit(p[i]) - base))) / alpha
        far = torch.log(1 + sum(torch.exp(beta * (unit(a[i]) @ unit(x) - base)) for x in n[i])) / beta
        terms.append(near + far)
    return sum(terms) / len(terms)


def angular(a: Tensor, p: Tensor, n: Tensor, alpha: float) -> Tensor:
    """Wang 2017, equation 8: log(1 + Σ exp(4 tan²α (a + p)·n − 2 (1 + tan²α) a·p)), of unit vectors."""
    squared = math.tan(alpha * math.pi / 180) ** 2
    terms = []
    for i in range(len(a)):
        x, y = unit(a[i]), unit(p[i])
        terms.append(torch.log(1 + sum(torch.exp(4 * squared * (x + y) @ unit(z) - 2 * (1 + squared) * x @ y) for z in n[i])))
    return sum(terms) / len(terms)


def pull(a: Tensor, p: Tensor, n: Tensor, share: float) -> Tensor:
    """arXiv:1903.05503, equations 2–4, for one triplet of vectors [D]."""
    d_ap, d_an = torch.linalg.vector_norm(a - p), torch.linalg.vector_norm(a - n)
    if d_an <= d_ap:
        return n
    return a + (share * d_an + (1 - share) * d_ap) * (n - a) / d_an


def unit(vector: Tensor) -> Tensor:
    return vector / vector.norm()


def exp_weight(beta: float, generator_avg: float) -> float:
    """Section 3.3, equation 12: the weight e^{−β/J_gen} of the real tuples."""
    return math.exp(-beta / generator_avg)

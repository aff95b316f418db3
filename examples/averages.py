"""Exponentially weighted averages, their bias correction, and decays of the learning rate.

v <- beta v + (1 - beta) x is what Momentum, RMSprop, Adam and the running statistics of batch
normalization compute. A year of daily temperatures shows its window, its lag and its wrong start;
then the decays of the learning rate that courses teach: their values, and what they are good for.
"""

import numpy as np
from experiment import COLOURS, Experiment, spread

import minigrad as mg
from minigrad import optim
from minigrad.optim import lr_scheduler

NG2, NG9 = "Ng, Improving deep neural networks, 2.3-2.5", "Ng, the same course, 2.9"
BETAS = (0.5, 0.9, 0.98)


def average(x: np.ndarray, beta: float, corrected: bool = False) -> np.ndarray:
    """v_t = beta v_(t-1) + (1 - beta) x_t from v_0 = 0; corrected: v_t / (1 - beta^t)."""
    v, averages = 0.0, []
    for t, value in enumerate(x, start=1):
        v = beta * v + (1 - beta) * value
        averages.append(v / (1 - beta**t) if corrected else v)
    return np.array(averages)


lab = Experiment(__doc__, seeds=50, quick_seeds=20)
days = np.arange(365)
truth = 15 - 9 * np.cos(2 * np.pi * (days - 20) / 365)
years = [truth + np.random.default_rng(i).normal(0, 3, 365) for i in lab.seeds]

rows = []
for beta in BETAS:
    window = 1 / (1 - beta)
    plain = np.array([average(year, beta) for year in years])
    fair = np.array([average(year, beta, corrected=True) for year in years])
    noise = np.std(plain - average(truth, beta), axis=0)[-100:].mean() / 3
    lag = days[int(np.argmax(average(truth, beta, True)))] - days[int(np.argmax(truth))]
    start, start_fair = ((v[:, :10] - truth[:10]).mean() for v in (plain, fair))
    rows.append([beta, window, beta**window, noise, np.sqrt((1 - beta) / (1 + beta)), float(lag)])
    rows[-1] += [start, start_fair]
head = ["β", "1/(1-β)", "weight left after them", "noise left", "in theory", "days late"]
lab.table(
    [*head, "error of the first 10 days", "corrected"],
    rows,
    "√((1-β)/(1+β)) of the noise is left in theory; days late: at the warmest day of the year; "
    "errors in °C.",
)
weights, noises, lags = ([row[i] for row in rows] for i in (2, 3, 5))
text = f"after 1/(1-β) days about 1/e = 0.368 of a day's weight is left, for β {BETAS[1:]}"
kept = ", ".join(f"{weight:.3f}" for weight in weights[1:])
lab.claim(text, kept, f"O2: {NG2}", np.allclose(weights[1:], np.exp(-1), atol=0.02))
text = "a larger β is smoother, and later"
pairs = zip(noises, lags, strict=True)
number = "; ".join(f"{noise:.2f} of the noise, {lag:.0f} days" for noise, lag in pairs)
lab.claim(text, number, f"O2: {NG2}", noises[0] > noises[1] > noises[2] and lags[0] < lags[2])
text = "the average starts too low, and v / (1 - β^t) mends it"
number = f"β 0.98, first 10 days: {rows[2][6]:+.1f} °C; corrected: {rows[2][7]:+.2f} °C"
lab.claim(text, number, f"O3: {NG2}", abs(rows[2][7]) < abs(rows[2][6]) / 5)

DECAYS = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1),
    "1/(1+t)": lambda o: lr_scheduler.InverseTimeLR(o, decay=1.0),
    "0.95^t": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.95),
    "1/√t": lr_scheduler.InverseSqrtLR,
    "half every 8": lambda o: lr_scheduler.StepLR(o, step_size=8, gamma=0.5),
    "0.5^t": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.5),
}


def descend(decay, epochs: int = 40, steps: int = 10) -> tuple[list[float], np.ndarray]:
    """Rates by epoch, and losses |w|^2 / 2 (epochs, seeds) where each gradient w has noise N(0, 1).

    The minimum is 0; w starts at (5, ..., 5), ten numbers for each seed.
    """
    mg.manual_seed(0)
    w = mg.full((len(lab.seeds), 10), 5.0, requires_grad=True, device=lab.device)
    optimizer = optim.SGD([w], lr=0.2)
    scheduler = decay(optimizer)
    rates, losses = [], []
    for _ in range(epochs):
        rates.append(scheduler.get_last_lr()[0])
        for _ in range(steps):
            w.grad = w.detach() + mg.randn_like(w)
            optimizer.step()
        losses.append((w.detach() ** 2).sum(1).cpu().numpy() / 2)
        scheduler.step()
    return rates, np.array(losses)


runs = {name: descend(decay) for name, decay in DECAYS.items()}
shown = [0, 1, 2, 3, 4, 39]
rows = [[n, *(rates[t] for t in shown), spread(x[-1], 4)] for n, (rates, x) in runs.items()]
head = [f"lr, epoch {t}" for t in shown]
lab.table(["decay", *head, "loss at the end"], rows, "A quadratic with noisy gradients, lr 0.2.")
ng = [0.2, 0.1, 0.2 / 3, 0.05, 0.04]
text, got = "1/(1+t) takes 0.2 to 0.1, 0.067, 0.05, 0.04", runs["1/(1+t)"][0][:5]
lab.claim(text, ", ".join(f"{v:.3f}" for v in got[1:]), f"O8: {NG9}", np.allclose(got, ng))
ends = {name: losses[-1].mean() for name, (_, losses) in runs.items()}
slow = {name: end for name, end in ends.items() if name not in ("constant", "0.5^t")}
text = "a constant rate wanders around the minimum, decays come closer"
number = f"{ends['constant']:.2f} against {min(slow.values()):.3f} to {max(slow.values()):.3f}"
lab.claim(text, number, f"O8: {NG9}", max(slow.values()) < ends["constant"] / 2)

with lab.figure("averages", 9, 3) as fig:
    one, two, three = fig.subplots(1, 3, width_ratios=[1.4, 1, 1])
    one.plot(days, years[0], ".", ms=2, color="#888888")
    for beta, colour in zip(BETAS, COLOURS[1:], strict=False):
        one.plot(days, average(years[0], beta), color=colour, label=f"β = {beta}")
        two.plot(days[:60], average(years[0], beta)[:60], color=colour)
        two.plot(days[:60], average(years[0], beta, corrected=True)[:60], "--", color=colour)
    one.set(title="a year of temperatures, °C", xlabel="day")
    one.legend(loc="lower center", ncols=3, columnspacing=1)
    two.set(title="its first days; dashed: corrected", xlabel="day")
    for name, (_, losses) in runs.items():
        three.semilogy(losses.mean(1), label=name, lw=1.2)
    three.set(title="loss while the rate decays", xlabel="epoch")
    three.legend(fontsize=7, ncols=2, columnspacing=1)
lab.finish()

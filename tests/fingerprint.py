"""Everything that a look must leave as it was, as plain data: equal before and after."""

import minigrad as mg
from minigrad import engine


def fingerprint(*modules, optimizer=None):
    """Parameters, buffers, gradients, modes, attributes, versions of memory, random state."""
    found = {"rng": repr(mg.get_rng_state())}
    for i, model in enumerate(modules):
        for path, module in model.named_modules():
            state = {k: v for k, v in module.__dict__.items() if k[0] != "_"}
            found[i, path, "attributes"] = repr(state)
            hooks = {k: list(v) for k, v in module.__dict__.items() if k.endswith("hooks")}
            found[i, path, "hooks"] = repr(hooks)
        for name, t in [*model.named_parameters(), *model.named_buffers()]:
            grad = None if t.grad is None else (id(t.grad), t.grad.array.tobytes())
            memory = id(t), id(t.array), engine.version(t.array)
            found[i, name] = memory, t.array.tobytes(), grad, t.requires_grad
    if optimizer is not None:
        found["groups"] = repr(
            [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        )
        for j, state in enumerate(optimizer.state.values()):
            for name, kept in state.items():
                found["optimizer", j, name] = (
                    repr(kept) if not hasattr(kept, "array") else kept.array.tobytes()
                )
    return found

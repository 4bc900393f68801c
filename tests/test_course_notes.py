"""The course notes on backpropagation that fastbp implements, row by row: the functions.

A row is one formula of the notes: "2-5" is the fifth of note 002. Where the notes are wrong, the
corrected formula is tested, and sometimes that the printed one differs. Letters are the rows of
numbers in `seed_vectors.json`.

Every check runs with `fastbp` and with `fastbp.reference`. `test_course_networks.py` holds those of
layers, graphs and training, and makes sure that no row is forgotten.
"""

import numpy as np
import pytest
from course import SEEDS, agrees, close, register, seed

import fastbp
from fastbp import reference

MODULES = [reference, fastbp]
ROWS = {}  # row -> check(ops)
row = register(ROWS)

A = seed("A_softmax_ce")
LOGITS, LABELS = A["logits"], A["labels"]
T = np.eye(3)[LABELS]


# --- 000, 001, 003: softmax cross-entropy -------------------------------------------------------


@row("0-1", "1-1", "1-5", "3-3", "4-17", "4-19", "A")
def cross_entropy_of_softmax(ops):
    """CE = -sum_i t_i log p_i = log sum exp - x_k."""
    close(ops.softmax(LOGITS), A["softmax"])
    close(np.exp(ops.log_softmax(LOGITS)), A["softmax"])
    close(ops.log_softmax(LOGITS), LOGITS - ops.logsumexp(LOGITS, keepdims=True))
    for targets in (LABELS, T):
        for reduction in ("none", "sum", "mean"):
            loss = ops.softmax_cross_entropy(LOGITS, targets, reduction=reduction)
            close(loss, A[f"loss_{reduction}"])
            loss = ops.cross_entropy(ops.softmax(LOGITS), targets, reduction=reduction)
            close(loss, A[f"loss_{reduction}"])
    close(-np.sum(T * np.log(ops.softmax(LOGITS)), axis=1), A["loss_none"])
    close(ops.logsumexp(LOGITS) - LOGITS[np.arange(3), LABELS], A["loss_none"])


@row("1-2", "1-6")
def gradient_at_the_logits(ops):
    """dCE/dx = p - t: p - 1 at the label, p elsewhere."""
    for targets in (LABELS, T):
        for reduction in ("sum", "mean"):
            _, dlogits = ops.softmax_cross_entropy_with_grad(LOGITS, targets, reduction=reduction)
            close(dlogits, A[f"dlogits_{reduction}"])
            dlogits = ops.softmax_cross_entropy_backward(2.0, LOGITS, targets, reduction=reduction)
            close(dlogits, 2 * A[f"dlogits_{reduction}"])


@row("0-2")
def gradient_of_targets_that_do_not_sum_to_one(ops):
    """p * sum(t) - t; the notes' p - t is right only where sum(t) = 1."""
    t = np.array([[0.5, 2.0, 0.25], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    _, dlogits = ops.softmax_cross_entropy_with_grad(LOGITS, t, reduction="sum")
    close(dlogits, A["softmax"] * t.sum(axis=1, keepdims=True) - t)
    agrees(dlogits, lambda x: ops.softmax_cross_entropy(x, t, reduction="sum"), LOGITS)
    assert np.max(np.abs(dlogits - (A["softmax"] - t))) > 1
    probs = ops.softmax(LOGITS)
    dprobs = ops.cross_entropy_backward(1.0, probs, t, reduction="sum")
    close(ops.softmax_backward(dprobs, probs), dlogits)


@row("0-4", "2-6", "2-7")
def separate_modules_equal_the_fused_one(ops):
    """-(1/S) T / P through softmax_backward is (1/S)(P * (T 1 1^T) - T)."""
    probs = ops.softmax(LOGITS)
    for targets in (LABELS, T):
        dprobs = ops.cross_entropy_backward(1.0, probs, targets)
        close(dprobs, A["ce_module_dP_mean"])
        dprobs = ops.cross_entropy_backward(1.0, probs, targets, reduction="sum")
        close(dprobs, -T / probs)
    dprobs = ops.cross_entropy_backward(1.0, probs, LABELS)
    assert np.max(np.abs(dprobs - np.kron(T, probs)[:3, :3])) > 1, "2-6 prints another product"
    dlogits = ops.softmax_backward(dprobs, probs)
    close(dlogits, A["dlogits_mean"])
    _, fused = ops.softmax_cross_entropy_with_grad(LOGITS, LABELS)
    close(fused, dlogits)
    assert np.max(np.abs(fused - A["wrong_002_2a_as_printed"])) > 0.1


@row("0-5", "4-16")
def jacobian_of_softmax(ops):
    """dp_a/dx_b = p_a (delta_ab - p_b)."""
    p = ops.softmax(LOGITS[0])
    jacobian = np.array([ops.softmax_backward(dy, p) for dy in np.eye(3)])
    close(jacobian, p[:, None] * (np.eye(3) - p))


@row("4-18")
def jacobian_of_log_softmax(ops):
    """dlog p_j/dx_i = delta_ij - p_i; the notes' last line prints p_j."""
    y = ops.log_softmax(LOGITS[0])
    p = np.exp(y)
    jacobian = np.array([ops.log_softmax_backward(dy, y) for dy in np.eye(3)])
    close(jacobian, np.eye(3) - p)
    assert np.max(np.abs(jacobian - (np.eye(3) - p[:, None]))) > 0.2


@row("2-5")
def softmax_module(ops):
    """dX = Y * (dY - (dY * Y) 1 1^T)."""
    y = ops.softmax(LOGITS)
    close(ops.softmax_backward(A["dY"], y), A["softmax_backward"])


@row("3-1")
def shifts_change_nothing(ops):
    for c in (-1000.0, -1.0, 64.0, 1e5):
        close(ops.softmax(LOGITS + c), A["softmax"])


@row("K")
def small_losses_keep_their_precision(ops):
    for case in SEEDS["K_small_loss_accuracy"]["rows"]:
        logits, label = np.array([case["logits"]], float), case["label"]
        for targets in (np.array([label]), np.eye(3)[[label]]):
            loss, dlogits = ops.softmax_cross_entropy_with_grad(logits, targets)
            close(loss, case["loss"], rtol=1e-15, atol=0)
            close(dlogits[0, label], case["dlogit_target"], rtol=1e-15, atol=0)


# --- sigmoid ------------------------------------------------------------------------------------


@row("0-7", "1-3", "1-9", "2-4", "3-2", "4-5", "4-6", "4-7", "D")
def sigmoid_and_its_derivatives(ops):
    """s' = s (1 - s) = s(x) s(-x), not 001's s(x) s(1 - x); (log s)' = 1 - s."""
    d = seed("D_sigmoid")
    x, ones = d["x"], np.ones(len(d["x"]))
    close(ops.sigmoid(x), d["sigmoid"], atol=0)
    close(ops.sigmoid(x) + ops.sigmoid(-x), ones)
    close(ops.sigmoid_backward(ones, x=x), d["dsigmoid"], atol=0)
    close(ops.sigmoid_backward(3 * ones, ops.sigmoid(x)), 3 * d["dsigmoid"])
    close(ops.sigmoid(x) * ops.sigmoid(-x), d["dsigmoid"], atol=0)
    close(ops.log_sigmoid(x), d["log_sigmoid"], atol=0)
    assert np.signbit(ops.log_sigmoid(x)[-1])
    close(ops.log_sigmoid_backward(ones, x), d["dlog_sigmoid"], atol=0)
    close(ops.log_sigmoid_backward(3 * ones, x), 3 * (1 - d["sigmoid"]))
    close(ops.sigmoid(1e-4), 0.500025, rtol=1e-9)
    step = np.heaviside(x, 1)
    np.testing.assert_array_equal(ops.sigmoid(x) >= 0.5, step)
    some = np.array([-3.0, -0.5, 0.25, 2.0])
    close(ops.sigmoid(some), np.exp(some) / (1 + np.exp(some)))
    close(ops.sigmoid(some), 1 / (1 + np.exp(-some)))
    assert np.all(np.abs(ops.sigmoid(some) - 1 / (1 + np.exp(some))) > 0.1), "as 4-6 prints it"
    at_zero = ops.sigmoid_backward(np.ones(1), x=np.zeros(1))[0]
    assert at_zero == 0.25
    assert at_zero != pytest.approx(ops.sigmoid(0.0) * ops.sigmoid(1.0))


# --- linear -------------------------------------------------------------------------------------


@row("0-6", "1-7", "1-8", "1-10", "2-1", "2-2", "2-3", "C")
def linear_modules(ops):
    """Y = X W^T + b with dW = dY^T X, and Y = X W + b with dW = X^T dY; db = 1^T dY, dX = dY W."""
    out_in, in_out = seed("C_linear_W_NxM"), seed("C_linear_W_MxN")
    for c, layout in ((out_in, "out_in"), (in_out, "in_out")):
        y = ops.linear(c["X"], c["W"], out_in["b"], weight_layout=layout)
        close(y, out_in["Y"])
        grads = ops.linear_backward(out_in["dY"], c["X"], c["W"], weight_layout=layout)
        for gradient, expected in zip(grads, (c["dX"], c["dW"], c["db"]), strict=True):
            close(gradient, expected)


@row("4-1", "4-2", "4-3", "4-4", "J")
def linear_discriminator(ops):
    """theta_0 + theta . x, also by a prepended 1; distances divide by |theta| without theta_0."""
    close(ops.linear([[1.0, 1.0]], [[0.2], [0.3]], [0.1]), [[0.6]])
    close(ops.linear([[1.0, 1.0, 1.0]], [[0.1], [0.2], [0.3]]), [[0.6]])
    j = seed("J_linear_discriminator")
    norm = np.sqrt(np.sum(j["theta"][1:] ** 2))
    normal = j["theta"][1:, None] / norm
    close(normal[:, 0], j["unit_normal"])
    # A point p lies (g(p) / |theta|) from the line, so walking that far back along the normal is 0.
    distance = ops.linear(np.array([[-4.0, 9.0]]), normal, [1 / norm])
    close(ops.linear(np.array([[-4.0, 9.0]]) - distance * normal.T, normal, [1 / norm]), 0)
    close(-ops.linear(np.zeros((1, 2)), normal, [1 / norm]), j["signed_distance"])
    assert abs(j["unit_normal"][0] - j["printed_wrong"]["unit_normal"]) > 0.2
    assert abs(j["signed_distance"] - j["printed_wrong"]["d"]) > 0.1
    # The sign of g tells the side, theta_0 is minus the distance along a unit normal.
    on_line = j["signed_distance"] * normal.T
    for way in (-2.0, 2.0):
        side = ops.linear(on_line + way * normal.T, normal, [-j["signed_distance"]])
        close(side, way)


# --- one hidden layer ---------------------------------------------------------------------------


@row("0-3", "0-8", "0-9", "0-10", "0-11", "0-12", "1-4", "3-4", "4-27", "B")
def one_hidden_layer(ops):
    """Linear, sigmoid, linear, softmax cross-entropy, and back to every parameter and the input."""
    b = seed("B_one_hidden_layer_sum")
    t = ops.linear(b["X"], b["W1"], b["b1"])
    h = ops.sigmoid(t)
    logits = ops.linear(h, b["W2"], b["b2"])
    close(h, b["h"])
    close(logits, b["logits"])
    close(ops.softmax(logits), b["probs"])

    loss, dlogits = ops.softmax_cross_entropy_with_grad(logits, b["labels"], reduction="sum")
    close(loss, b["loss_sum"])
    close(dlogits, b["dlogits"])
    dh, dweight2, dbias2 = ops.linear_backward(dlogits, h, b["W2"])
    close(dweight2, b["dW2"])
    close(dbias2, b["db2"])
    for dt in (ops.sigmoid_backward(dh, h), ops.sigmoid_backward(dh, x=t)):
        dx, dweight1, dbias1 = ops.linear_backward(dt, b["X"], b["W1"])
        close(dweight1, b["dW1"])
        close(dbias1, b["db1"])
        close(dx, b["dX"])
    # 003 writes the same for columns: dx^T = (W1 * s'(t)) W2 (p - y)^T, one example at a time.
    slope = ops.sigmoid_backward(np.ones(t.shape), x=t)
    for i in range(len(t)):
        close((b["W1"] * slope[i]) @ b["W2"] @ dlogits[i], b["dX"][i])


@row("4-20", "4-21", "4-23")
def softmax_regression_step(ops):
    """dl/dtheta_j = sum_i (p_j - 1(y_i = j)) x_i, theta with a row for each class; one step."""
    b = seed("B_one_hidden_layer_sum")
    x, labels = b["h"], b["labels"]  # 4-23 is the same rule on hidden activations
    theta = np.array([[0.1, -0.2, 0.3], [0.0, 0.4, -0.5]])

    def loss(theta):
        logits = ops.linear(x, theta, weight_layout="out_in")
        return ops.softmax_cross_entropy(logits, labels, reduction="sum")

    logits = ops.linear(x, theta, weight_layout="out_in")
    _, dlogits = ops.softmax_cross_entropy_with_grad(logits, labels, reduction="sum")
    _, dtheta, _ = ops.linear_backward(dlogits, x, theta, weight_layout="out_in")
    close(dtheta, (ops.softmax(logits) - np.eye(2)[labels]).T @ x)
    agrees(dtheta, loss, theta)
    assert loss(theta - 0.1 * dtheta) < loss(theta)


# --- logistic regression ------------------------------------------------------------------------


@row("4-8", "4-11", "4-12", "4-13", "E")
def logistic_regression(ops):
    """dl/dtheta = -sum_i x_i (y_i - s(theta . x_i)), and one step of gradient descent."""
    e = seed("E_logistic_regression")
    theta, y = e["theta"][:, None], e["y"].astype(float)[:, None]
    z = ops.linear(e["X"], theta)
    close(z[:, 0], e["z"])
    close(ops.sigmoid(z)[:, 0], e["p"])
    close(ops.binary_cross_entropy(ops.sigmoid(z), y, reduction="sum"), e["bce_sum"])
    close(-np.sum(y * ops.log_sigmoid(z) + (1 - y) * ops.log_sigmoid(-z)), e["bce_sum"])
    loss, dz = ops.sigmoid_cross_entropy_with_grad(z, y, reduction="sum")
    close(loss, e["bce_sum"])
    close(ops.sigmoid_cross_entropy(z, y, reduction="sum"), e["bce_sum"])
    close(dz, ops.sigmoid(z) - y)
    close(dz, ops.sigmoid_cross_entropy_backward(1.0, z, y, reduction="sum"))
    close(e["grad"], -np.sum(e["X"] * (y - ops.sigmoid(z)), axis=0))
    _, dtheta, _ = ops.linear_backward(dz, e["X"], theta)
    close(dtheta[:, 0], e["grad"])
    close(theta[:, 0] - e["eta"] * dtheta[:, 0], e["theta_next"])
    # The same loss as softmax over the two classes with logits (0, z).
    two = np.concatenate([np.zeros_like(z), z], axis=1)
    loss, dtwo = ops.softmax_cross_entropy_with_grad(two, e["y"], reduction="sum")
    close(loss, e["bce_sum"])
    close(dtwo[:, 1:], dz)


@row("4-31", "E2")
def binary_cross_entropy_on_probabilities(ops):
    """-y/p + (1 - y)/(1 - p), through the sigmoid, is p - y."""
    e = seed("E2_bce_on_probs")
    p, y = e["yhat"], e["y"]
    dp = ops.binary_cross_entropy_backward(1.0, p, y, reduction="sum")
    close(dp, e["dyhat"])
    close(dp, -y / p + (1 - y) / (1 - p))
    close(ops.sigmoid_backward(dp, p), p - y)


@row("4-26")
def binary_network(ops):
    """dE/dv = sum (p - y) z; dE/dw_j = sum (p - y) v_j z_j (1 - z_j) x."""
    f = seed("F_cg12_l2_network")
    x, w, v, y = f["X"], f["W_rows_are_units"], f["v"][1:, None], np.array([[1.0], [0.0], [1.0]])

    def loss(w, v):
        z = ops.sigmoid(ops.linear(x, w, weight_layout="out_in"))
        return ops.sigmoid_cross_entropy(ops.linear(z, v), y, reduction="sum")

    z = ops.sigmoid(ops.linear(x, w, weight_layout="out_in"))
    _, dlogit = ops.sigmoid_cross_entropy_with_grad(ops.linear(z, v), y, reduction="sum")
    dz, dv, _ = ops.linear_backward(dlogit, z, v)
    _, dw, _ = ops.linear_backward(ops.sigmoid_backward(dz, z), x, w, weight_layout="out_in")
    error = ops.sigmoid(ops.linear(z, v)) - y
    close(dv, z.T @ error)
    close(dw, (error * v.T * z * (1 - z)).T @ x)
    agrees(dv, lambda v: loss(w, v), v)
    agrees(dw, lambda w: loss(w, v), w)


# --- squared error ------------------------------------------------------------------------------


@row("4-30")
def squared_error(ops):
    """L2 = sum (yhat - y)^2: dL/dyhat = 2 (yhat - y)."""
    yhat, y = np.array([0.5, -2.0, 3.0]), np.array([1.0, 1.0, -1.0])
    close(ops.squared_error(yhat, y, reduction="sum"), 0.25 + 9 + 16)
    dyhat = ops.squared_error_backward(1.0, yhat, y, reduction="sum")
    close(dyhat, [-1, -6, 8])
    agrees(dyhat, lambda yhat: ops.squared_error(yhat, y, reduction="sum"), yhat)


@row("4-38", "4-42", "F")
def regression_network(ops):
    """004's two-layer network with E = sum (yhat - y)^2, its numbers corrected."""
    f = seed("F_cg12_l2_network")
    h = ops.linear(f["X"], f["W_rows_are_units"], weight_layout="out_in")
    close(h, f["H"])
    z = ops.sigmoid(h)
    close(z, f["Z"])
    v = f["v"][1:, None]
    yhat = ops.linear(z, v, f["v"][:1])[:, 0]
    close(yhat, f["yhat"])
    close(ops.squared_error(yhat, f["y"], reduction="none"), f["loss_each"])
    loss, dyhat = ops.squared_error_with_grad(yhat, f["y"], reduction="sum")
    close(loss, f["loss_sum"])
    assert abs(loss - 287.694) > 5, "as printed"
    close(dyhat, f["dyhat"])
    assert np.all(dyhat < 0), "printed with the other sign"
    dz, dv, dbias = ops.linear_backward(dyhat[:, None], z, v)
    close(np.concatenate([dbias, dv[:, 0]]), f["dv"])
    dh = ops.sigmoid_backward(dz, z)
    _, dw, _ = ops.linear_backward(dh, f["X"], f["W_rows_are_units"], weight_layout="out_in")
    close(dw, f["dW"])


@row("4-24", "4-25")
def regression_with_several_outputs(ops):
    """E = 1/2 sum (yhat - y)^2: dV = E^T Z and dW = ((E V) * Z (1 - Z))^T X, both (out, in)."""
    f = seed("F_cg12_l2_network")
    x, w = f["X"], f["W_rows_are_units"]
    v, y = np.array([[0.5, -1.0, 2.0], [0.25, 0.75, -0.5]]), np.array([[1, 2], [0, -1], [3, 0.5]])

    def forward(w, v):
        z = ops.sigmoid(ops.linear(x, w, weight_layout="out_in"))
        return z, ops.linear(z, v, weight_layout="out_in")

    z, yhat = forward(w, v)
    loss, error = ops.squared_error_with_grad(yhat, y, half=True, reduction="sum")
    close(loss, 0.5 * np.sum((yhat - y) ** 2))
    close(error, yhat - y)
    dz, dv, _ = ops.linear_backward(error, z, v, weight_layout="out_in")
    dh = ops.sigmoid_backward(dz, z)
    _, dw, _ = ops.linear_backward(dh, x, w, weight_layout="out_in")
    close(dv, error.T @ z)
    close(dw, ((error @ v) * z * (1 - z)).T @ x)
    agrees(dv, lambda v: 0.5 * np.sum((forward(w, v)[1] - y) ** 2), v)
    agrees(dw, lambda w: 0.5 * np.sum((forward(w, v)[1] - y) ** 2), w)


@row("4-43", "I")
def chain_of_two_sigmoids(ops):
    """yhat = s(V s(W x)), L = 1/2 (yhat - y)^2; s' taken from the outputs yhat and b."""
    i = seed("I_cg14_chain")
    x, w, v = (i[name].reshape(1, 1) for name in ("X", "W", "V"))
    b = ops.sigmoid(ops.linear(x, w))
    yhat = ops.sigmoid(ops.linear(b, v))
    close(yhat, i["yhat"])
    y = i["y"].reshape(1, 1)
    loss, dyhat = ops.squared_error_with_grad(yhat, y, half=True, reduction="sum")
    close(loss, i["loss"])
    db, dv, _ = ops.linear_backward(ops.sigmoid_backward(dyhat, yhat), b, v)
    _, dw, _ = ops.linear_backward(ops.sigmoid_backward(db, b), x, w)
    close(dv, i["dV"])
    close(dw, i["dW"])
    a, c = ops.linear(x, w), ops.linear(b, v)
    printed = (yhat - y) * c * (1 - c) * v * a * (1 - a) * x
    assert abs(printed - i["dW"]) > 1e-3, "with c (1 - c) for yhat (1 - yhat)"


# --- the test -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("ops", MODULES, ids=lambda module: module.__name__)
def test_row(ops, name):
    ROWS[name](ops)

"""Functions stand where PyTorch has them: at the top level, on Tensor, in nn.functional."""

import pytest

import minigrad as mg
from minigrad import nn, optim
from tests.public_names import shared_names

pytestmark = pytest.mark.parity

TENSOR = """abs add addmm all any amax amin argmax argmin baddbmm bmm broadcast_to cat chunk
clamp cos cosh cumsum cumprod diagonal div einsum eq erf exp expand expm1 flatten
flip floor floor_divide gather ge gt index_select isfinite isinf isnan le log log1p
log2 log_softmax logsumexp lt masked_fill matmul max maximum mean median min minimum
mm movedim mul narrow ne neg norm outer permute pow prod reciprocal remainder repeat
repeat_interleave reshape roll round rsqrt scatter scatter_add sigmoid sign sin sinh
softmax sort split sqrt square squeeze stack std std_mean sub sum swapaxes
take_along_dim tan tanh tile topk trace transpose tril triu unbind unflatten unique
unsqueeze var var_mean view where zeros_like"""
FUNCTIONAL = """relu relu6 leaky_relu prelu elu selu celu gelu silu mish softplus softsign softmin
hardtanh hardswish hardsigmoid hardshrink softshrink tanhshrink threshold logsigmoid
glu linear bilinear conv1d conv2d conv_transpose2d unfold fold embedding one_hot pad
interpolate pixel_shuffle max_pool1d max_pool2d avg_pool1d avg_pool2d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d
batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm
normalize cosine_similarity dropout dropout1d dropout2d alpha_dropout cross_entropy
nll_loss mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy
binary_cross_entropy_with_logits kl_div hinge_embedding_loss margin_ranking_loss
soft_margin_loss triplet_margin_loss scaled_dot_product_attention"""
MODULES = """ReLU ReLU6 LeakyReLU PReLU ELU SELU CELU GELU SiLU Mish Softplus Softsign Softmin
Hardtanh Hardswish Hardsigmoid Hardshrink Softshrink Tanhshrink Threshold LogSigmoid
GLU Linear Bilinear Conv1d Conv2d ConvTranspose2d Unfold Fold Embedding Upsample
PixelShuffle MaxPool1d MaxPool2d AvgPool1d AvgPool2d AdaptiveAvgPool1d
AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d BatchNorm1d BatchNorm2d
BatchNorm3d LayerNorm GroupNorm InstanceNorm1d InstanceNorm2d LocalResponseNorm
RMSNorm Dropout Dropout1d Dropout2d AlphaDropout CrossEntropyLoss NLLLoss MSELoss
L1Loss SmoothL1Loss HuberLoss BCELoss BCEWithLogitsLoss KLDivLoss HingeEmbeddingLoss
MarginRankingLoss SoftMarginLoss TripletMarginLoss CosineSimilarity RNN LSTM GRU
RNNCell LSTMCell GRUCell MultiheadAttention Identity Flatten Unflatten Sequential
ModuleList ModuleDict ParameterList ParameterDict ZeroPad2d ConstantPad2d
ReflectionPad2d ReplicationPad2d CircularPad2d"""
UTILS = """clip_grad_norm_ clip_grad_value_ parameters_to_vector vector_to_parameters
fuse_conv_bn_eval fuse_linear_bn_eval"""
OPTIM = "SGD RMSprop Adam AdamW Adagrad Adadelta Adamax NAdam RAdam"
SCHEDULES = """StepLR MultiStepLR ExponentialLR CosineAnnealingLR CosineAnnealingWarmRestarts
LinearLR PolynomialLR ReduceLROnPlateau OneCycleLR LambdaLR SequentialLR"""


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("nn.functional", FUNCTIONAL),
        ("nn", MODULES),
        ("nn.utils", UTILS),
        ("nn.utils.parametrizations", "weight_norm spectral_norm"),
        ("optim", OPTIM),
        ("optim.lr_scheduler", SCHEDULES),
        ("optim.swa_utils", "AveragedModel update_bn"),
    ],
)
def test_every_name_is_where_pytorch_has_it(path, names):
    ours, theirs = mg, pytest.importorskip("torch")
    for part in path.split("."):
        ours, theirs = getattr(ours, part), getattr(theirs, part)
    for name in names.split():
        assert hasattr(theirs, name), name
        assert hasattr(ours, name), f"minigrad.{path}.{name}"


def test_tensor_functions_stand_in_both_places():
    torch = pytest.importorskip("torch")
    for name in {*TENSOR.split(), *shared_names()}:
        for ours, theirs in ((mg, torch), (mg.Tensor, torch.Tensor)):
            if name in TENSOR.split() or hasattr(mg, name):
                assert hasattr(ours, name) or not hasattr(theirs, name), (theirs, name)


def test_what_pytorch_lacks_is_added_beside():
    assert issubclass(optim.Momentum, optim.Optimizer)
    assert optim.lr_scheduler.InverseTimeLR
    assert optim.lr_scheduler.InverseSqrtLR
    assert nn.BatchNorm1d(2, fused=False).fused is False
    assert mg.inspect.trace is not mg.trace  # that one is a matrix's
    assert all(hasattr(mg.inspect, name) for name in mg.inspect.__all__)

"""Networks that cannot be exported are refused, and leave no file."""

import keras
import pytest

from unet import exporting
from unet.model import UNet

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow exports")


@keras.saving.register_keras_serializable("tests")
class KeepHighBits(keras.layers.Layer):
    """An operation that ONNX does not have."""

    def call(self, inputs):
        import tensorflow as tf

        return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(inputs, tf.int32), ~0xFF), tf.float32)


def test_a_network_with_an_operation_that_onnx_lacks_is_refused(tiny_config, tmp_path, monkeypatch):
    image = keras.Input((None, None, 3), name="image")
    monkeypatch.setattr(exporting, "inference_network", lambda model: keras.Model(image, KeepHighBits()(image)))
    with pytest.raises(ValueError, match=r"a\.onnx: the network computes something that ONNX lacks.*Bit"):
        exporting.export_onnx(UNet(tiny_config()), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_the_exported_network_computes_in_float32_and_leaves_the_model_as_it_is(tiny_config):
    model = UNet(tiny_config(PRECISION="mixed_bfloat16"))
    network = exporting.inference_network(model)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert model.config.PRECISION == "mixed_bfloat16"
    for ours, theirs in zip(model.keras_model.get_weights(), network.get_weights(), strict=True):
        assert (ours == theirs).all()

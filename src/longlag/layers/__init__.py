"""torch.nn modules: recurrent layers, stacks, both directions, sequence models, converters."""

from longlag.layers import built_in
from longlag.layers.attention import Attention
from longlag.layers.backward import Backward
from longlag.layers.base import RecurrentModule
from longlag.layers.bidirectional import Bidirectional
from longlag.layers.built_in import *  # noqa: F403
from longlag.layers.card import ModelCard, Shown, show
from longlag.layers.dilated import Dilated
from longlag.layers.echo_state import EchoState
from longlag.layers.embedded import Embedded
from longlag.layers.ensemble import Ensemble
from longlag.layers.from_torch_nn import from_torch
from longlag.layers.next_generation import NextGeneration, NextGenerationState
from longlag.layers.readout import Readout, ReadoutModule
from longlag.layers.recurrent import Options, Recurrent
from longlag.layers.saving import load, load_with_card, load_with_metadata, save
from longlag.layers.sequence_model import SequenceModel
from longlag.layers.stack import Stack
from longlag.layers.stream import AverageState, Stream
from longlag.layers.summary import Summary
from longlag.layers.to_torch_nn import to_torch

__all__ = [
    "Attention",
    "AverageState",
    "Backward",
    "Bidirectional",
    "Dilated",
    "EchoState",
    "Embedded",
    "Ensemble",
    "ModelCard",
    "NextGeneration",
    "NextGenerationState",
    "Options",
    "Readout",
    "ReadoutModule",
    "Recurrent",
    "RecurrentModule",
    "SequenceModel",
    "Shown",
    "Stack",
    "Stream",
    "Summary",
    "from_torch",
    "load",
    "load_with_card",
    "load_with_metadata",
    "save",
    "show",
    "to_torch",
]
__all__ += built_in.__all__

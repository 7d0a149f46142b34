"""Audio files: decoding, encoding, resampling and tags, block by block."""

from sepvae.audio.reader import BLOCK_FRAMES, MAX_CHANNELS, AudioInfo, AudioReader

__all__ = ["BLOCK_FRAMES", "MAX_CHANNELS", "AudioInfo", "AudioReader"]

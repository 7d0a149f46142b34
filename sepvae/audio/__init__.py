"""Audio files: decoding, encoding, resampling and tags, block by block."""

from sepvae.audio.reader import AUDIO_ENDINGS, BLOCK_FRAMES, MAX_CHANNELS, AudioInfo, AudioReader

__all__ = ["AUDIO_ENDINGS", "BLOCK_FRAMES", "MAX_CHANNELS", "AudioInfo", "AudioReader"]

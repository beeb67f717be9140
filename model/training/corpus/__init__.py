"""Corpora for training: rendered piano, synthesized speech and real recordings, as one folder each.

A corpus folder holds 16 kHz mono audio files of at most 30 s and `manifest.csv`. What is in it follows from a
seed alone: every clip draws from its own random generator, so neither the number of workers nor an
interruption changes a sample.

    manifest    the table of a corpus folder
    waveform    reading, writing, level, silence, cutting
    rendering   running many tasks: processes, resuming, progress
    recordings  real recordings, cut into clips
    voices, sentences, speech   text to speech
    score, exercises, performance   what is played and how
    instruments, sampler, room, piano   how that sounds
    command     `audiolm corpus ...`
"""

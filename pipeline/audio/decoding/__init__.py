"""Parts of `decode.py` and `recordings.py`: how audio files are laid out, and how they are read.

In the order in which a file passes through them:

- `byte_source`: random access to the bytes of a path or of a file in memory.
- `streams`: where each audio stream of a file begins and ends, and whether its end is missing; Ogg and FLAC.
- `stream`: one of them, as a file for the decoder.
- `containers`: uncompressed files (WAV, AIFF, AU, CAF …), whose headers may be wrong.
- `mpeg`, `mpeg_header`: MP3 files, their streams and tags; headers of their frames.
- `stream_reader`: samples of a stream by libsndfile, block by block.
- `damage`: streams of whole clips up to their first damaged part.
- `channels`: mixes channels to mono, without those that are silent or cancel out.
- `decoder_output`: hides messages of the MP3 decoder.
- `av_reader`: formats that libsndfile does not read, by PyAV (optional).

For windows of recordings, which may be long:

- `object_source`: random access to a large object of an object store, by requests for ranges.
- `recording_streams`: streams of a file that is too large to be searched.
- `readers`, `frame_reader`: any section of a stream, also around damaged parts.
- `mpeg_frames`, `mpeg_reader`: damaged or missing frames of MP3 files, left out in silence as well.
- `ogg_pages`: damaged pages of Ogg files, which decoders leave out in silence.
- `blocks`: mono samples of a stream at the target rate, in blocks at fixed positions.
- `timeline`: samples of any part of a recording.
"""

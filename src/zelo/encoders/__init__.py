"""What turns text into something that can be matched: lexical terms, and vectors from a small transformer.

- `lexical`: language detection, stop words, stemming.
- `weights`: a model's name -> a folder whose content is verified and digested.
- `vectors`: pooled and per-token vectors of many texts, and their files.
- `transformer`: texts -> vectors, by OpenVINO or by sentence-transformers.
- `openvino_engine`: a model converted for OpenVINO, kept on disk.
"""

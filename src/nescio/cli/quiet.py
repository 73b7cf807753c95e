"""Less output of libraries on the terminal."""

import logging
import os
import warnings


def quiet_libraries() -> None:
    """Silence the progress bars and warnings of libraries, which would hide nescio's own output."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when it is imported, so before Transformers is
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    for library in ("accelerate", "bitsandbytes", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning)

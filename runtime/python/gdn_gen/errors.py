"""The one exception of the package."""


class Error(RuntimeError):
    """A call that failed: `status` is the word that gdn_status_name() gives ("layout_mismatch"), str() the text."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status

"""Downloads: how far they are by the clock, and what they leave on the shelf."""

from __future__ import annotations

from lmgateway.studio.simulator.downloads import SIZE, Downloads
from lmgateway.studio.simulator.errors import FieldError, StudioError
from lmgateway.studio.simulator.shelf import Shelf
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import QWEN

NAME = "qwen/qwen3-4b-2507"


class DownloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.shelf = Shelf()
        self.downloads = Downloads(self.shelf)

    def test_life(self) -> None:
        """A job tells its speed and its end while it runs, and when it ended afterwards."""
        job = self.downloads.begin(NAME, None, 1000, 10)
        self.assertEqual(
            job,
            {
                "job_id": job["job_id"],
                "status": "downloading",
                "total_size_bytes": SIZE,
                "downloaded_bytes": 0,
                "bytes_per_second": SIZE / 10,
                "estimated_completion": "1970-01-01T00:16:50.000Z",
                "started_at": "1970-01-01T00:16:40.000Z",
            },
        )
        self.assertRegex(job["job_id"], "^job_[0-9a-f]{10}$")
        self.assertEqual(self.downloads.status(job["job_id"], 1005)["downloaded_bytes"], SIZE // 2)
        self.assertEqual(
            self.downloads.status(job["job_id"], 1010),
            {
                "job_id": job["job_id"],
                "status": "completed",
                "total_size_bytes": SIZE,
                "downloaded_bytes": SIZE,
                "started_at": "1970-01-01T00:16:40.000Z",
                "completed_at": "1970-01-01T00:16:50.000Z",
            },
        )

    def test_lands(self) -> None:
        """When it is complete, and not before, the model is there, once, in the quantization that was asked for."""
        self.downloads.begin(f"https://huggingface.co/{NAME}", "Q8_0", 0, 10)
        count = len(self.shelf.downloaded)
        self.downloads.settle(9)
        self.assertEqual(len(self.shelf.downloaded), count)
        self.downloads.settle(10)
        self.downloads.settle(11)
        self.assertEqual(len(self.shelf.downloaded), count + 1)
        self.assertEqual(self.shelf.downloaded[-1].variant, f"{NAME}@q8_0")
        self.assertEqual(self.downloads.begin(NAME, None, 12, 10), {"status": "already_downloaded"})

    def test_there(self) -> None:
        """A model that is there needs no job."""
        self.assertEqual(self.downloads.begin(QWEN, None, 0, 10), {"status": "already_downloaded"})

    def test_twice(self) -> None:
        """Who asks again gets the job that runs."""
        first = self.downloads.begin(NAME, None, 0, 10)
        self.assertEqual(self.downloads.begin(NAME, None, 5, 10)["job_id"], first["job_id"])

    def test_instant(self) -> None:
        """A download may take no time."""
        self.assertEqual(self.downloads.begin(NAME, None, 0, 0)["status"], "completed")

    def test_names(self) -> None:
        """Names that are not in kebab-case are refused, unless they come from Hugging Face."""
        for name in ("", "Qwen/Qwen3", "a b", "a/b/c", "a_b", "-a", "http://huggingface.co/a/b", "https://x.org/a/b"):
            error = self.assertRaises(FieldError, self.downloads.begin, name, None, 0, 10)
            self.assertEqual(error.message, "Invalid artifact name. Must be in kebab-case")
        self.assertIn("job_id", self.downloads.begin("https://huggingface.co/Org/Some_Model-GGUF", None, 0, 10))

    def test_unknown(self) -> None:
        """A job that nobody began is a 404."""
        error = self.assertRaises(StudioError, self.downloads.status, "job_1", 0)
        self.assertEqual((error.status, error.kind), (404, "job_not_found"))
        self.assertEqual(error.message, "Download job with id 'job_1' not found")

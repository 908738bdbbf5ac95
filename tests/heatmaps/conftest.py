"""Large layers are begun as quickly as in the tests of networks."""

from tests.models.conftest import _quickly_begun as _quickly_begun

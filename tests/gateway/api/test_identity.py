"""The gateway's own certificate: errors when it cannot be used."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from process_cosmos_gateway.api.certificate import make_identity
from process_cosmos_gateway.api.identity import client_context, fingerprint, identity_file, server_context
from process_cosmos_gateway.errors import StartError


@pytest.mark.parametrize("use", [server_context, client_context, fingerprint])
def test_an_unreadable_certificate_is_not_reported_as_broken(
    tmp_path: Path, use: Callable[[Path], ssl.SSLContext | str]
) -> None:
    make_identity(tmp_path)
    file = identity_file(tmp_path)
    aside = file.rename(tmp_path / "aside")
    with pytest.raises(StartError, match="missing or broken"):
        use(tmp_path)
    file.symlink_to(file)  # a link to itself cannot be read
    with pytest.raises(StartError, match="cannot be read") as refused:
        use(tmp_path)
    assert "Remove" not in str(refused.value)
    aside.rename(file)
    assert use(tmp_path)
    file.write_text("-----BEGIN CERTIFICATE-----")
    with pytest.raises(StartError, match="missing or broken"):
        use(tmp_path)

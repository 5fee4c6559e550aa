"""Signers: what turns a CSR into a certificate, one module each, and the options that each one takes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from runbook_lib.errors import UnusableParameters
from runbook_lib.files import read_regular
from runbook_lib.models import Fault
from runbook_lib.parameters import LocalPath, Secret, local_path
from runbook_lib.pki.certificates import LARGEST, order_chain, read_certificates, spki_sha256_of
from runbook_lib.secrets import HOW_TO_WRITE, REFERENCE
from runbook_lib.signers.base import Signer
from runbook_lib.signers.local_ca import LocalCa
from runbook_lib.signers.manual import Manual
from runbook_lib.signers.self_signed import SelfSigned

__all__ = ["Signer", "make_signer", "option_faults"]


class NoOptions(BaseModel):
    """For signers that take none."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


def _no_key_itself(text: str) -> str:
    if "-----" in text or "\n" in text:
        raise PydanticCustomError(
            "fault", "is a key in clear", {"write": f"the path of an encrypted PEM key, or {HOW_TO_WRITE}"}
        )
    return text


class LocalCaOptions(NoOptions):
    """The options of `local-ca`."""

    ca_certificate: Annotated[
        LocalPath, Field(min_length=1, description="path of the CA's certificate; intermediates above it may follow")
    ]
    ca_key: Annotated[
        str,
        AfterValidator(_no_key_itself),
        AfterValidator(local_path),
        Field(min_length=1, description="path of an encrypted PEM key, or a secret reference to one"),
    ]
    ca_key_password: Annotated[Secret, Field(description="secret reference to the key's passphrase")] = ""


OPTIONS: Mapping[str, type[NoOptions]] = {"manual": NoOptions, "self-signed": NoOptions, "local-ca": LocalCaOptions}


def option_faults(name: str, options: Mapping[str, object]) -> tuple[Fault, ...]:
    """Every fault in `signer_options` for a signer; none for a name that is no signer, which is another fault."""
    model = OPTIONS.get(name)
    if model is None:
        return ()
    try:
        model.model_validate(dict(options))
    except pydantic.ValidationError as error:
        return tuple(_fault(each, model) for each in error.errors(include_url=False))
    return ()


def _fault(error: Any, model: type[NoOptions]) -> Fault:  # noqa: ANN401 - pydantic's own mapping
    name = str(error["loc"][0])
    field = model.model_fields.get(name)
    write = error.get("ctx", {}).get("write") or (
        field.description if field else f"one of: {', '.join(model.model_fields) or 'no option at all'}"
    )
    wrong = {"missing": "is missing", "extra_forbidden": "is no option of this signer"}.get(error["type"], error["msg"])
    return Fault(f"signer_options.{name}", wrong, str(write))


def make_signer(
    name: str, options: Mapping[str, Any], certificate_file: Path | None, resolve: Callable[[str, str], str], base: Path
) -> Signer:
    """The signer of a run.

    Args:
        name: As in the parameter `signer`; its options were judged before.
        options: `signer_options`.
        certificate_file: Where the CA's answer is or will be.
        resolve: Gives the value of a secret reference, for the option of that name.
        base: The folder against which relative paths are resolved.

    Raises:
        UnusableParameters: A file or key of the signer cannot be used.
    """
    if name == "manual":
        return Manual(certificate_file)
    if name == "self-signed":
        return SelfSigned()
    return _local_ca(LocalCaOptions.model_validate(dict(options)), resolve, base)


def _local_ca(options: LocalCaOptions, resolve: Callable[[str, str], str], base: Path) -> Signer:
    field = "signer_options.ca_certificate"
    try:
        known = read_certificates(read_regular(base / Path(options.ca_certificate).expanduser(), LARGEST))
        field = "signer_options.ca_key"
        key = _ca_key(options, resolve, base)
        ours = spki_sha256_of(key.public_key())
        chain = order_chain(known, ours)
        field = "signer_options.ca_certificate" if chain[0].spki_sha256 == ours else field
        return LocalCa(chain, key)
    except OSError as error:
        raise UnusableParameters(
            [Fault(field, f"cannot be read: {error.strerror}", "the path of an existing file")]
        ) from None
    except ValueError as error:
        raise UnusableParameters(
            [Fault(field, str(error), "the CA's certificate, and the key that belongs to it")]
        ) from None


def _ca_key(
    options: LocalCaOptions, resolve: Callable[[str, str], str], base: Path
) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """The CA's key; what is raised never holds a part of it or of its passphrase."""
    by_reference = REFERENCE.fullmatch(options.ca_key) is not None
    pem = (
        resolve("ca_key", options.ca_key).encode()
        if by_reference
        else read_regular(base / Path(options.ca_key).expanduser(), LARGEST)
    )
    password = resolve("ca_key_password", options.ca_key_password).encode() if options.ca_key_password else None
    encrypted = b"ENCRYPTED" in pem
    if not by_reference and not encrypted:
        msg = f"is a file without an encrypted PEM key: encrypt it, or give it as {HOW_TO_WRITE}"
        raise ValueError(msg)
    if encrypted and not password:
        msg = "needs ca_key_password"
        raise ValueError(msg)
    try:
        key = serialization.load_pem_private_key(pem, password if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = "cannot be used: wrong ca_key_password, or no PEM key"
        raise ValueError(msg) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        msg = "is neither an RSA nor an EC key"
        raise ValueError(msg)  # noqa: TRY004 - made a fault by the caller
    return key

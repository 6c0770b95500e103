"""Mail by SMTP (RFC 5321) to `mailto:` addresses."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage

from presspass.notify import Message

_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Mail:
    """An SMTP server. `password` is used when `username` is not empty."""

    host: str
    port: int
    sender: str
    starttls: bool = False
    username: str = ""
    password: str = ""

    def accepts(self, address: str) -> bool:
        """`mailto:` addresses."""
        return address.startswith("mailto:")

    def deliver(self, message: Message, now_s: int) -> None:
        """Sends one mail; OSError (smtplib's errors are OSErrors) when the server does not take it."""
        mail = self._mail(message)
        with smtplib.SMTP(self.host, self.port, timeout=_TIMEOUT_S) as server:
            if self.starttls:
                server.starttls(context=ssl.create_default_context())
            if self.username:
                server.login(self.username, self.password)
            server.send_message(mail)

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        try:
            mail["From"], mail["To"] = self.sender, message.address.removeprefix("mailto:")
            mail["Subject"] = message.subject
            mail["Message-ID"] = f"<{message.id}@presspass.invalid>"
            mail.set_content(message.body)
        except (ValueError, LookupError) as error:  # the email package, on an address that is none
            raise OSError(f"no mail can be made for this address: {error}") from error
        return mail

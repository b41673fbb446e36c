"""Every setting of the hub, read from `HUB_…` environment variables (and a `.env` in the working directory)."""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings; `hub settings` prints them with their meaning and present value."""

    model_config = SettingsConfigDict(env_prefix="HUB_", env_file=".env", extra="ignore")

    data_dir: Path = Field(Path("var"), description="Folder for everything embedded: database, objects, keys, logs.")
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")
    broker_url: str = Field("", description="Celery broker URL; empty: a transport over SQLite in the data folder.")
    object_store_url: str = Field("", description="file:///… or s3://key:secret@host:port/bucket; empty: data folder.")
    bind: str = Field("127.0.0.1", description="Address the web server listens on.")
    http_port: int = Field(8000, ge=1, le=65_535, description="Port the web server listens on.")
    dimse_port: int = Field(11112, ge=0, le=65_535, description="Port for DICOM's own protocol (C-STORE …); 0: none.")
    dimse_aet: str = Field("HUB", min_length=1, max_length=16, description="AE title by which devices call the hub.")
    dimse_bind: str = Field("", description="Address that port listens on; empty: as HUB_BIND.")
    dimse_processes: int = Field(2, ge=1, le=64, description="Processes for DIMSE; about as many as processor cores.")
    dimse_associations: int = Field(64, ge=1, description="Most associations of one such process at a time.")
    dimse_device_associations: int = Field(16, ge=1, description="… and of one device among them.")
    dimse_idle_seconds: int = Field(120, ge=5, description="An association without a message ends after this.")
    dimse_tls_port: int = Field(2762, ge=1, le=65_535, description="Port for DIMSE over TLS, with a certificate.")
    dimse_tls_cert: str = Field("", description="PEM file: the hub's certificate and chain for DIMSE over TLS.")
    dimse_tls_key: str = Field("", description="PEM file with its key.")
    dimse_tls_client_ca: str = Field("", description="PEM file: authorities of the devices' certificates.")
    public_url: str = Field("", description="Address people type; in PDFs and QR codes. Empty: http://BIND:PORT.")
    secure_cookies: bool | None = Field(None, description="Cookies only over TLS; empty: when the public URL is https.")
    trusted_proxies: str = Field("127.0.0.1", description="Addresses whose X-Forwarded-For is believed, by comma.")
    secret_key: str = Field("", description="Secret for sealing keys; empty: made once and kept in the data folder.")
    county_name: str = Field(
        "青溪县", description="Name of the county, on pages and reports; the default is the sample county."
    )
    county_name_en: str = Field("Qingxi County", description="The county's name in English.")
    county_code: str = Field("360731", description="Administrative code of the county; prefix of county numbers.")
    timezone: str = Field("Asia/Shanghai", description="Zone of the county's clocks; the database keeps UTC.")
    log_level: str = Field("INFO", description="Least level that is logged.")
    log_json: bool = Field(False, description="Log one JSON object a line instead of readable text.")

    session_idle_minutes: int = Field(60, description="A session without a deliberate action ends after this.")
    session_hours: int = Field(12, description="A session ends after this, whatever happens.")
    login_attempts: int = Field(8, description="Failed logins per name or address within 15 minutes before a pause.")
    signing_hours: int = Field(4, description="A signing key opened with its PIN closes after this.")
    signing_idle_minutes: int = Field(15, description="… or after this much time without a signature or a heartbeat.")

    upload_chunk_mb: int = Field(8, description="Size the page sends at a time; smaller loses less on a bad link.")
    upload_max_file_mb: int = Field(12_288, description="Largest single file accepted.")
    upload_expire_hours: int = Field(72, description="An unfinished upload is dropped after this.")
    stow_max_request_mb: int = Field(20_480, description="Largest STOW-RS request accepted.")
    instance_max_mb: int = Field(4_096, description="Largest single DICOM file accepted.")
    frame_max_mb: int = Field(512, description="Largest decoded frame accepted.")
    zip_max_mb: int = Field(24_576, description="Largest total size of the files in a ZIP.")
    zip_max_files: int = Field(20_000, description="Most files in a ZIP.")
    cache_mb: int = Field(
        24, ge=0, description="Memory of each web process for pieces of images read ahead from S3; 0: none."
    )
    trash_days: int = Field(30, ge=1, description="A deleted study can be restored for so many days, then is gone.")
    quarantine_max_mb: int = Field(10_240, description="Room for refused files; over it new ones are refused loudly.")
    min_free_mb: int = Field(512, description="Below this much free room nothing new is accepted.")

    quiet_period_seconds: int = Field(60, description="Images without a declared count: complete after this silence.")
    no_images_alert_minutes: int = Field(60, description="A registered exam without images alerts its clinic.")
    verify_limit_minutes: int = Field(30, description="Limit for resolving an identity or image-count problem.")
    lease_minutes: float = Field(10, gt=0, description="A reader's lease without a heartbeat ends after this.")
    recompress: bool = Field(True, description="Recompress uncompressed images without loss at rest (HTJ2K).")
    replaced_hours: int = Field(
        24, ge=1, description="A replaced object is kept for so many hours: longer than a backup takes."
    )
    job_lease_seconds: int = Field(60, description="A worker that is silent for this long has lost its job.")
    job_attempts: int = Field(8, description="Tries before a job is given to the operator.")
    worker_concurrency: int = Field(2, description="Worker processes.")
    worker_nice: int = Field(
        15, ge=0, le=19, description="How far workers step back where receiving and serving want the processor (nice)."
    )
    web_processes: int = Field(2, ge=1, le=64, description="Web server processes; about as many as processor cores.")

    critical_webhook_url: str = Field(
        "", description="SMS or phone gateway that is told of critical values (signed POST); empty: none."
    )
    critical_webhook_secret: str = Field("", description="Secret of that gateway's signatures (HMAC-SHA-256).")
    critical_webhook_private: bool = Field(
        False, description="The gateway may stand in a private network, and may then speak plain http."
    )
    tsa_url: str = Field("", description="RFC 3161 time-stamp authority; empty: signatures carry no trusted time.")
    tsa_roots: str = Field("", description="PEM file with that authority's root certificates, by which it is verified.")
    sample_county: bool | None = Field(None, description="Fill an empty hub with the sample county (make run does).")
    sample_studies: bool = Field(True, description="Enter generated studies into the sample county.")
    sample_size: int = Field(0, description="Rows of the generated studies' images; 0: as devices make them.")

    @model_validator(mode="after")
    def _fill(self) -> Self:
        self.data_dir = self.data_dir.expanduser().absolute()
        if not self.database_url:
            self.database_url = f"sqlite:///{self.data_dir / 'hub.sqlite'}"
        if not self.broker_url:
            self.broker_url = f"sqla+sqlite:///{self.data_dir / 'broker.sqlite'}"
        if not self.object_store_url:
            self.object_store_url = f"file://{self.data_dir / 'objects'}"
        self.dimse_bind = self.dimse_bind or self.bind
        if not self.public_url:
            host = "127.0.0.1" if self.bind in ("0.0.0.0", "::") else self.bind  # noqa: S104
            self.public_url = f"http://{f'[{host}]' if ':' in host else host}:{self.http_port}"
        self.public_url = self.public_url.rstrip("/")
        if self.critical_webhook_url and len(self.critical_webhook_secret) < 16:
            raise ValueError("HUB_CRITICAL_WEBHOOK_URL needs HUB_CRITICAL_WEBHOOK_SECRET of 16 characters or more")
        if self.secure_cookies is None:
            self.secure_cookies = self.public_url.startswith("https://")
        return self

    @property
    def is_sqlite(self) -> bool:
        """Whether the embedded database is in use."""
        return self.database_url.startswith("sqlite")

    def secret(self) -> str:
        """The secret that seals keys at rest; made once where none is set.

        Several processes may start at once: the first to link its file wins and all read the same.
        """
        if self.secret_key:
            return self.secret_key
        path = self.data_dir / "secret.key"
        if not path.exists():
            self.data_dir.mkdir(parents=True, exist_ok=True)
            draft = self.data_dir / f".secret.{os.getpid()}.{secrets.token_hex(4)}"
            with draft.open("x") as file:
                draft.chmod(0o600)
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
        return path.read_text().strip()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process; `get_settings.cache_clear()` re-reads them."""
    return Settings()

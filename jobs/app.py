"""The Celery application: each setting with its reason. A message is a run's id, and only wakes a worker.

The database is the queue (`syncd.db.queue`): lost, doubled and late messages are harmless, so the broker may be any,
and may be away. A queue of the broker is a site.
"""

from __future__ import annotations

from typing import Any, Final

from celery import Celery
from kombu import Queue

from syncd.settings.urls import HiddenUrl

RUNS: Final = "runs"  # the queue of jobs without a site
WORK: Final = "syncd.work"  # the one task, see `tasks`
EMBEDDED: Final = "memory"  # the scheme of a broker inside the process

# A message is lost at a wipe of the broker and doubled at a reconnect, both by design: nothing below tries to prevent
# that, and everything tries to keep the broker from holding work back.
_SETTINGS: Final[dict[str, Any]] = {
    "task_ignore_result": True,  # the run's row has the result
    "result_backend": None,
    "task_serializer": "json",
    "accept_content": ["json"],  # never pickle: a broker must not be able to run code
    "task_acks_late": True,  # with a prefetch of one a worker holds nothing that another one could do
    "worker_prefetch_multiplier": 1,
    "task_reject_on_worker_lost": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # a run does not need the broker
    "worker_enable_prefetch_count_reduction": False,  # else a worker takes less after each reconnect
    "worker_send_task_events": False,  # nobody listens
    "task_send_sent_event": False,
    "worker_enable_remote_control": False,  # control is columns of the database
    "worker_hijack_root_logger": False,  # logs are ours
    "worker_redirect_stdouts": False,
    "worker_soft_shutdown_timeout": 0,  # stopping is ours
    "task_publish_retry": False,  # a message that cannot be sent is not needed: workers look by themselves
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # for ever
    "broker_connection_timeout": 4,
    "broker_heartbeat": 30,
    "broker_pool_limit": 4,
    "task_default_queue": RUNS,
    "task_default_delivery_mode": "transient",  # the broker need not write to its disk
    "task_create_missing_queues": True,
}
_TRANSPORT_OF: Final = {"memory": "memory", "redis": "redis", "rediss": "redis", "amqp": "amqp", "amqps": "amqp"}
# `max_retries` 0: otherwise publishing hangs for seconds while the broker is away, whatever the settings above say.
_TRANSPORTS: Final[dict[str, dict[str, Any]]] = {
    "memory": {"polling_interval": 0.05},
    "redis": {
        "max_retries": 0,
        "visibility_timeout": 3600,  # of a message that is not acknowledged: a slice takes minutes
        "socket_timeout": 10,
        "socket_connect_timeout": 4,
        "socket_keepalive": True,
        "health_check_interval": 25,
    },
    "amqp": {"max_retries": 0},
}


def make_app(broker: HiddenUrl) -> Celery:
    """Returns the application for a broker. Nothing is connected yet."""
    transport = _TRANSPORT_OF[broker.scheme]
    url = broker.reveal() if transport != EMBEDDED else "memory://localhost/"  # without a host it warns each time
    app = Celery("syncd", broker=url, set_as_current=False)
    app.conf.update(_SETTINGS, broker_transport_options=_TRANSPORTS[transport])
    return app


def queue_of(site: str) -> Queue:
    """Returns the broker's queue for the jobs of a site; "" for jobs that every worker can run."""
    return Queue(f"{RUNS}.{site}" if site else RUNS)


def ring(app: Celery, run_id: int, site: str) -> None:
    """Wake a worker for a run. Raises what the transport raises where the broker is away."""
    app.send_task(WORK, (run_id,), queue=queue_of(site))

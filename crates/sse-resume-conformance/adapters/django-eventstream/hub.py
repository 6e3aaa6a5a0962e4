"""PyPI: django-eventstream, in the smallest Django project: one process, events in SQLite by the library's own storage.

Usage: hub.py PORT DATA
"""

import sys

import django
from django.conf import settings

PORT, DATA = int(sys.argv[1]), sys.argv[2]

settings.configure(
    SECRET_KEY="conformance",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django_eventstream"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    # Writers wait for each other, as Django's notes on SQLite advise, and a commit is on the disk.
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{DATA}/events.sqlite3",
            "OPTIONS": {
                "timeout": 30,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
            },
        }
    },
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
)
django.setup()

import uvicorn  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from django_eventstream import send_event  # noqa: E402
from django_eventstream.views import events  # noqa: E402


def publish(request, topic):
    send_event(topic, "message", request.body.decode(), json_encode=False)
    return HttpResponse(status=204)


urlpatterns = [
    path("", lambda request: HttpResponse()),
    path("publish/<topic>", publish),
    path("events", events),
]

call_command("migrate", verbosity=0)
uvicorn.run(get_asgi_application(), host="127.0.0.1", port=PORT, lifespan="off", log_level="warning")

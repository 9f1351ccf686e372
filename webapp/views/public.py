"""Landing page, registration, sign in and out."""

from __future__ import annotations

from flask import Blueprint, flash, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, logout_user

from webapp.domain.errors import InvalidInput, NotFound, TooManyTries
from webapp.extensions import db
from webapp.services import accounts, sign_ins
from webapp.views.access import safe_next
from webapp.views.forms import LoginForm, RegisterForm
from webapp.views.htmx import go_to
from webapp.views.security import begin_session, registration_is_open

bp = Blueprint("public", __name__)


@bp.get("/")
def landing() -> ResponseReturnValue:
    if current_user.is_authenticated:
        return go_to(url_for("jobs.index"))
    return render_template("public/landing.html")


@bp.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    form = LoginForm(next=request.args.get("next"))
    if request.method == "GET":
        return render_template("public/login.html", form=form)
    try:
        user = sign_ins.sign_in(
            db.session(), form.email.data or "", form.password.data or "", address=request.remote_addr or ""
        )
    except TooManyTries as error:
        form.password.errors = [error.message]
        return render_template("public/login.html", form=form), 429, {"Retry-After": str(error.seconds)}
    if user is None:
        form.password.errors = ["This e-mail and password do not fit together."]
        return render_template("public/login.html", form=form), 422
    begin_session(user)
    return go_to(safe_next(form.next.data, url_for("jobs.index")))


@bp.route("/register", methods=["GET", "POST"])
def register() -> ResponseReturnValue:
    if not registration_is_open():
        raise NotFound("Registration is closed here. Ask an administrator for an account.")
    form = RegisterForm()
    if request.method == "GET":
        return render_template("public/register.html", form=form)
    try:
        user = accounts.register(db.session(), form.email.data or "", form.password.data or "")
    except InvalidInput as error:
        for key, message in error.errors.items():
            form[key].errors = [message]
        return render_template("public/register.html", form=form), 422
    begin_session(user)
    return go_to(url_for("runs.new"))


@bp.post("/logout")
def logout() -> ResponseReturnValue:
    logout_user()
    session.clear()
    flash("You are signed out.", "success")
    return go_to(url_for("public.landing"))
